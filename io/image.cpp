#include "vtl/io/image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "vtl/core/error.h"
#include "vtl/io/file.h"
#include "vtl/io/image_codecs.h"

namespace vtl::io {
namespace {

using codecs::Header;

bool starts_with(std::span<const uint8_t> bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() && std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

// TGA has no magic: its header must make sense in every field.
bool looks_like_tga(std::span<const uint8_t> bytes) {
  if (bytes.size() < 18) return false;
  const int map = bytes[1], kind = bytes[2], map_bits = bytes[7], depth = bytes[16];
  const bool mapped = kind == 1 || kind == 9, colour = kind == 2 || kind == 10, grey = kind == 3 || kind == 11;
  if (!(mapped || colour || grey) || map > 1 || (mapped && map != 1)) return false;
  if (map == 1 && map_bits != 15 && map_bits != 16 && map_bits != 24 && map_bits != 32) return false;
  if (map == 0 && (bytes[3] | bytes[4] | bytes[5] | bytes[6])) return false;
  if (mapped && depth != 8 && depth != 16) return false;
  if (colour && depth != 15 && depth != 16 && depth != 24 && depth != 32) return false;
  if (grey && depth != 8 && depth != 16) return false;
  const int width = bytes[12] | bytes[13] << 8, height = bytes[14] | bytes[15] << 8;
  return width > 0 && height > 0 && (bytes[17] & 0xc0) == 0;
}

// The second part of an ISO base media file's first box, `ftyp`, names what it holds.
ImageFormat sniff_iso_media(std::span<const uint8_t> bytes) {
  if (!starts_with(bytes, "ftyp", 4)) return ImageFormat::unknown;
  if (starts_with(bytes, "avif", 8) || starts_with(bytes, "avis", 8)) return ImageFormat::avif;
  for (const char* brand : {"heic", "heix", "hevc", "heim", "heis", "mif1", "msf1"})
    if (starts_with(bytes, brand, 8)) return ImageFormat::heif;
  return ImageFormat::unknown;
}

// The file's bytes from the end of `bytes` on, up to `most` of them. False at the end of the file.
bool read_more(const File& file, size_t most, std::vector<uint8_t>& bytes) {
  const size_t before = bytes.size();
  bytes.resize(before + most);
  const size_t got = file.read(before, std::as_writable_bytes(std::span(bytes).subspan(before)));
  bytes.resize(before + got);
  return got == most;
}

void check_file_bytes(int64_t bytes, const std::string& name, const ImageLimits& limits) {
  if (bytes == 0) fail(ErrorKind::bad_data, name, ": is empty");
  if (bytes > limits.max_file_bytes)
    fail(ErrorKind::bad_data, name, ": has ", bytes, " bytes, more than the limit of ", limits.max_file_bytes);
}

std::vector<uint8_t> read_file(const std::string& path, const ImageLimits& limits) {
  const File file(path, ErrorKind::bad_data);
  check_file_bytes(static_cast<int64_t>(file.size()), path, limits);
  std::vector<uint8_t> bytes;
  read_more(file, file.size(), bytes);
  return bytes;
}

[[noreturn]] void refuse_format(ImageFormat format, const std::string& name) {
  if (format == ImageFormat::unknown)
    fail(ErrorKind::bad_data, name, ": is not a picture of a known format (JPEG, PNG, BMP, PNM and TGA can be read)");
  if (format == ImageFormat::jpeg || format == ImageFormat::png || format == ImageFormat::bmp ||
      format == ImageFormat::pnm || format == ImageFormat::tga)
    fail(ErrorKind::bad_data, name, ": is ", io::name(format),
         ", which this build cannot read (its library was not found)");
  fail(ErrorKind::bad_data, name, ": is ", io::name(format),
       ", which cannot be read; convert it to one of JPEG, PNG, BMP, PNM and TGA");
}

Header read_header(ImageFormat format, std::span<const uint8_t> bytes, const std::string& name) {
  switch (format) {
    case ImageFormat::jpeg: return codecs::jpeg_header(bytes, name);
    case ImageFormat::png: return codecs::png_header(bytes, name);
    case ImageFormat::pnm: return codecs::pnm_header(bytes, name);
    default: return codecs::stb_header(bytes, name);
  }
}

Header checked_header(ImageFormat format, std::span<const uint8_t> bytes, const std::string& name,
                      const ImageLimits& limits) {
  if (!can_decode(format)) refuse_format(format, name);
  const Header header = read_header(format, bytes, name);
  if (header.width < 1 || header.height < 1)
    fail(ErrorKind::bad_data, name, ": has ", header.width, " x ", header.height, " pixels");
  if (header.width > limits.max_pixels / header.height)
    fail(ErrorKind::bad_data, name, ": has ", header.width, " x ", header.height, " pixels, more than the limit of ",
         limits.max_pixels);
  return header;
}

ImageInfo info_of(ImageFormat format, const Header& header) {
  const bool turned = header.orientation >= 5;
  return {format, turned ? header.height : header.width, turned ? header.width : header.height, header.orientation};
}

}  // namespace

const char* name(ImageFormat format) {
  switch (format) {
    case ImageFormat::unknown: return "unknown";
    case ImageFormat::jpeg: return "JPEG";
    case ImageFormat::png: return "PNG";
    case ImageFormat::bmp: return "BMP";
    case ImageFormat::pnm: return "PNM";
    case ImageFormat::tga: return "TGA";
    case ImageFormat::gif: return "GIF";
    case ImageFormat::tiff: return "TIFF";
    case ImageFormat::webp: return "WebP";
    case ImageFormat::heif: return "HEIF";
    case ImageFormat::avif: return "AVIF";
    case ImageFormat::jpeg2000: return "JPEG 2000";
    case ImageFormat::jpegxl: return "JPEG XL";
    case ImageFormat::ico: return "ICO";
    case ImageFormat::psd: return "Photoshop";
  }
  return "unknown";
}

ImageFormat sniff_format(std::span<const uint8_t> bytes) {
  if (starts_with(bytes, "\xff\xd8\xff")) return ImageFormat::jpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return ImageFormat::png;
  if (starts_with(bytes, "GIF87a") || starts_with(bytes, "GIF89a")) return ImageFormat::gif;
  if (starts_with(bytes, "RIFF") && starts_with(bytes, "WEBP", 8)) return ImageFormat::webp;
  if (starts_with(bytes, {"II*\0", 4}) || starts_with(bytes, {"MM\0*", 4}) || starts_with(bytes, {"II+\0", 4}) ||
      starts_with(bytes, {"MM\0+", 4}))
    return ImageFormat::tiff;
  if (starts_with(bytes, {"\0\0\0\x0cjP  ", 8}) || starts_with(bytes, "\xff\x4f\xff\x51")) return ImageFormat::jpeg2000;
  if (starts_with(bytes, {"\0\0\0\x0cJXL ", 8}) || starts_with(bytes, "\xff\x0a")) return ImageFormat::jpegxl;
  if (starts_with(bytes, "8BPS")) return ImageFormat::psd;
  if (starts_with(bytes, {"\0\0\1\0", 4}) && bytes.size() > 5 && bytes[5] == 0 && bytes[4] > 0) return ImageFormat::ico;
  if (starts_with(bytes, "BM") && bytes.size() >= 18 && bytes[15] == 0 && bytes[16] == 0 && bytes[17] == 0)
    return ImageFormat::bmp;
  if (bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
      (bytes[2] == '#' || std::strchr(" \t\r\n", bytes[2]) != nullptr) && bytes[2] != 0)
    return ImageFormat::pnm;
  if (const ImageFormat media = sniff_iso_media(bytes); media != ImageFormat::unknown) return media;
  return looks_like_tga(bytes) ? ImageFormat::tga : ImageFormat::unknown;
}

bool can_decode(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg: return codecs::kHasJpeg;
    case ImageFormat::png: return codecs::kHasPng;
    case ImageFormat::pnm: return true;
    case ImageFormat::bmp:
    case ImageFormat::tga: return codecs::kHasStb;
    default: return false;
  }
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const ImageLimits& limits) {
  check_file_bytes(static_cast<int64_t>(bytes.size()), name, limits);
  const ImageFormat format = sniff_format(bytes);
  const Header header = checked_header(format, bytes, name, limits);
  switch (format) {
    case ImageFormat::jpeg: return apply_orientation(codecs::decode_jpeg(bytes, header, name), header.orientation);
    case ImageFormat::png: return apply_orientation(codecs::decode_png(bytes, header, name), header.orientation);
    case ImageFormat::pnm: return codecs::decode_pnm(bytes, name);
    default: return codecs::decode_stb(bytes, header, name);
  }
}

Image read_image(const std::string& path, const ImageLimits& limits) {
  return decode_image(read_file(path, limits), path, limits);
}

ImageInfo read_image_info(const std::string& path, const ImageLimits& limits) {
  const File file(path, ErrorKind::bad_data);
  check_file_bytes(static_cast<int64_t>(file.size()), path, limits);
  std::vector<uint8_t> bytes;
  // Most headers end within the first piece; profiles and thumbnails can push a JPEG's far back.
  for (size_t piece = size_t{64} << 10;; piece *= 4) {
    const bool more = read_more(file, piece, bytes);
    const ImageFormat format = sniff_format(bytes);
    if (!more || format != ImageFormat::jpeg || codecs::jpeg_header_is_complete(bytes))
      return info_of(format, checked_header(format, bytes, path, limits));
  }
}

int exif_orientation(std::span<const uint8_t> tiff) {
  constexpr uint32_t kOrientationTag = 0x0112, kShort = 3;
  const bool little = starts_with(tiff, {"II*\0", 4});
  if (!little && !starts_with(tiff, {"MM\0*", 4})) return 1;
  const auto number = [&](size_t at, int count) -> uint32_t {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i)
      value |= uint32_t{tiff[at + static_cast<size_t>(i)]} << 8 * (little ? i : count - 1 - i);
    return value;
  };
  if (tiff.size() < 8) return 1;
  const size_t directory = number(4, 4);
  if (directory > tiff.size() || tiff.size() - directory < 2) return 1;
  const size_t entries = std::min<size_t>(number(directory, 2), (tiff.size() - directory - 2) / 12);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (number(entry, 2) != kOrientationTag || number(entry + 2, 2) != kShort) continue;
    const uint32_t orientation = number(entry + 8, 2);
    return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
  }
  return 1;
}

Image apply_orientation(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  // Bits of the map from the seen picture to the stored one: 1 mirrors the stored columns, 2 the stored rows, 4 swaps
  // axes.
  constexpr std::array<int, 9> kMaps{0, 0, 1, 3, 2, 4, 6, 7, 5};
  const int map = kMaps[static_cast<size_t>(orientation)];
  const bool swap = map & 4;
  Image seen{swap ? image.height : image.width, swap ? image.width : image.height,
             std::vector<uint8_t>(image.rgb.size())};
  uint8_t* out = seen.rgb.data();
  for (int64_t y = 0; y < seen.height; ++y)
    for (int64_t x = 0; x < seen.width; ++x, out += 3) {
      int64_t column = swap ? y : x, row = swap ? x : y;
      if (map & 1) column = image.width - 1 - column;
      if (map & 2) row = image.height - 1 - row;
      std::memcpy(out, image.rgb.data() + (row * image.width + column) * 3, 3);
    }
  return seen;
}

}  // namespace vtl::io
