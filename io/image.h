// Reading pictures: JPEG, PNG, BMP, PNM and TGA, told apart by content, as 8-bit RGB the way it is meant to be seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace vtl::io {

// 8-bit RGB, row by row without padding.
struct Image {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3

  size_t bytes() const { return rgb.size(); }
};

// Pixels that somebody else owns; rows are `stride` bytes apart.
struct ImageView {
  const uint8_t* rgb = nullptr;
  int64_t width = 0, height = 0, stride = 0;

  ImageView() = default;
  ImageView(const uint8_t* pixels, int64_t w, int64_t h, int64_t row_bytes)
      : rgb(pixels), width(w), height(h), stride(row_bytes) {}
  ImageView(const Image& image) : ImageView(image.rgb.data(), image.width, image.height, image.width * 3) {}

  const uint8_t* row(int64_t y) const { return rgb + y * stride; }
  // The rectangle must lie inside.
  ImageView crop(int64_t left, int64_t top, int64_t w, int64_t h) const {
    return {rgb + top * stride + left * 3, w, h, stride};
  }
};

enum class ImageFormat { unknown, jpeg, png, bmp, pnm, tga, gif, tiff, webp, heif, avif, jpeg2000, jpegxl, ico, psd };

// "JPEG", "PNG", ...; "unknown"
const char* name(ImageFormat format);
// From the first bytes of a file (64 are enough).
ImageFormat sniff_format(std::span<const uint8_t> bytes);
// Whether `decode_image` reads this format in this build.
bool can_decode(ImageFormat format);

// Checked against the header before memory is taken for pixels.
struct ImageLimits {
  int64_t max_pixels = 178'956'970;  // where Pillow refuses, too
  int64_t max_file_bytes = int64_t{1} << 30;
};

struct ImageInfo {
  ImageFormat format = ImageFormat::unknown;
  int64_t width = 0, height = 0;  // after orientation
  int orientation = 1;            // EXIF, 1 to 8
};

// Anything that cannot be read as a whole is a bad_data that begins with `name`: another format, a truncated or broken
// file, more than the limits allow. The EXIF orientation of JPEG and PNG is applied. The colours are those of Pillow's
// convert("RGB"): alpha is dropped, grey repeated, inks converted without a profile; the upper 8 of 16 bits stay.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const ImageLimits& limits = {});
// The same from a file; one that cannot be opened, or is no regular file, is a bad_data, too.
Image read_image(const std::string& path, const ImageLimits& limits = {});
// What the header says, without decoding pixels and reading no more of the file than that asks for. Errors as above.
ImageInfo read_image_info(const std::string& path, const ImageLimits& limits = {});

// The orientation tag of a TIFF block, as in EXIF; 1 when there is none or it is broken.
int exif_orientation(std::span<const uint8_t> tiff);
// The picture as EXIF orientation 1 to 8 says that it is to be seen.
Image apply_orientation(Image image, int orientation);

}  // namespace vtl::io
