#include <cstdio>
#include <cstring>

#include "vtl/core/error.h"
#include "vtl/io/image_codecs.h"

#ifdef VTL_HAS_PNG
#include <png.h>

#include <csetjmp>
#endif

namespace vtl::io::codecs {
namespace {

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

}  // namespace

Header png_header(std::span<const uint8_t> bytes, const std::string& name) {
  constexpr size_t kSignature = 8, kHeaderChunk = 13, kFrame = 12;  // length, type and checksum around each chunk
  if (bytes.size() < kSignature + kFrame + kHeaderChunk || std::memcmp(bytes.data() + 12, "IHDR", 4) != 0)
    fail(ErrorKind::bad_data, name, ": is a PNG file without a header (truncated or broken)");
  constexpr uint32_t kMostPixelsASide = 0x7fffffff;
  const uint32_t width = big_endian(bytes.data() + 16), height = big_endian(bytes.data() + 20);
  if (width > kMostPixelsASide || height > kMostPixelsASide)
    fail(ErrorKind::bad_data, name, ": is a PNG file with a broken header");
  Header header{width, height, 1};
  for (size_t at = kSignature; bytes.size() - at >= kFrame;) {
    const uint8_t* chunk = bytes.data() + at;
    const size_t length = big_endian(chunk);
    if (std::memcmp(chunk + 4, "IDAT", 4) == 0 || length > bytes.size() - at - kFrame) break;
    if (std::memcmp(chunk + 4, "eXIf", 4) == 0) header.orientation = exif_orientation({chunk + 8, length});
    at += kFrame + length;
  }
  return header;
}

#ifdef VTL_HAS_PNG
namespace {

// What libpng's callbacks and error jumps work on: plain data, because a jump runs no destructors.
struct Job {
  const uint8_t* next;
  size_t left;
  uint8_t* rgb;
  int64_t width, height;
  uint8_t** rows;
  char reason[128];
};

void read_bytes(png_structp png, png_bytep to, size_t count) {
  Job& job = *static_cast<Job*>(png_get_io_ptr(png));
  if (count > job.left) png_error(png, "it is truncated");
  std::memcpy(to, job.next, count);
  job.next += count;
  job.left -= count;
}

[[noreturn]] void on_error(png_structp png, png_const_charp reason) {
  Job& job = *static_cast<Job*>(png_get_error_ptr(png));
  std::snprintf(job.reason, sizeof job.reason, "%s", reason);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

// Fills job.rgb. False with the reason.
bool decode(Job& job) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    std::snprintf(job.reason, sizeof job.reason, "no memory for a decoder");
    return false;
  }
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, &job, read_bytes);
  png_set_user_limits(png, static_cast<png_uint_32>(job.width), static_cast<png_uint_32>(job.height));
  png_read_info(png, info);
  if (png_get_image_width(png, info) != static_cast<png_uint_32>(job.width) ||
      png_get_image_height(png, info) != static_cast<png_uint_32>(job.height))
    png_error(png, "its size changed");
  png_set_expand(png);  // palettes to RGB, less than 8 bits to 8, transparency to alpha
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<size_t>(job.width) * 3) png_error(png, "its colours are unknown");
  png_read_image(png, job.rows);
  png_read_end(png, nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, const Header& header, const std::string& name) {
  Image image{header.width, header.height, std::vector<uint8_t>(static_cast<size_t>(header.width * header.height) * 3)};
  std::vector<uint8_t*> rows(static_cast<size_t>(header.height));
  for (int64_t y = 0; y < header.height; ++y) rows[static_cast<size_t>(y)] = image.rgb.data() + y * header.width * 3;
  Job job{bytes.data(), bytes.size(), image.rgb.data(), header.width, header.height, rows.data(), {}};
  if (!decode(job)) fail(ErrorKind::bad_data, name, ": is a broken PNG file: ", job.reason);
  return image;
}
#else
Image decode_png(std::span<const uint8_t>, const Header&, const std::string& name) {
  fail(ErrorKind::unsupported, name, ": this build reads no PNG");
}
#endif

}  // namespace vtl::io::codecs
