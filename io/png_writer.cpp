#include "vtl/io/png_writer.h"

#include <fstream>

#include "vtl/core/error.h"

#ifdef VTL_HAS_PNG
#include <png.h>
#endif

namespace vtl::io {

#ifdef VTL_HAS_PNG
std::vector<uint8_t> encode_png(const ImageView& image) {
  VTL_CHECK(image.width > 0 && image.height > 0, "png: a picture of ", image.width, " x ", image.height,
            " pixels, expected at least one");
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = PNG_FORMAT_RGB;
  header.flags = PNG_IMAGE_FLAG_FAST;  // the filters and level that cost little time: pictures here are many and small
  std::vector<uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(header));
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&header, bytes.data(), &size, 0, image.rgb, static_cast<png_int_32>(image.stride),
                                 nullptr))
    fail(ErrorKind::io, "png: a picture of ", image.width, " x ", image.height,
         " pixels cannot be encoded: ", header.message);
  bytes.resize(size);
  return bytes;
}
#else
std::vector<uint8_t> encode_png(const ImageView&) {
  fail(ErrorKind::unsupported, "png: this build has no libpng; install libpng-dev and configure again");
}
#endif

void write_png(const std::filesystem::path& path, const ImageView& image) {
  const std::vector<uint8_t> bytes = encode_png(image);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) fail(ErrorKind::io, path.string(), ": cannot be written");
}

}  // namespace vtl::io
