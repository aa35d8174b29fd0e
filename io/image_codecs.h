// The libraries behind image.h, one file each. Used by image.cpp alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vtl/io/image.h"

namespace vtl::io::codecs {

struct Header {
  int64_t width = 0, height = 0;  // as stored
  int orientation = 1;
};

#ifdef VTL_HAS_TURBOJPEG
inline constexpr bool kHasJpeg = true;
#else
inline constexpr bool kHasJpeg = false;
#endif
#ifdef VTL_HAS_PNG
inline constexpr bool kHasPng = true;
#else
inline constexpr bool kHasPng = false;
#endif
#ifdef VTL_HAS_STB
inline constexpr bool kHasStb = true;
#else
inline constexpr bool kHasStb = false;
#endif

// Each throws bad_data, beginning with `name`, for bytes that are not a whole picture; `decode_` takes the checked
// header of the same bytes and ignores its orientation. Without its library a function must not be called.
Header jpeg_header(std::span<const uint8_t> bytes, const std::string& name);
Image decode_jpeg(std::span<const uint8_t> bytes, const Header& header, const std::string& name);
// The bytes reach to the frame header at least, or can never do so.
bool jpeg_header_is_complete(std::span<const uint8_t> bytes);

Header png_header(std::span<const uint8_t> bytes, const std::string& name);
Image decode_png(std::span<const uint8_t> bytes, const Header& header, const std::string& name);

Header pnm_header(std::span<const uint8_t> bytes, const std::string& name);
Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name);

// BMP and TGA.
Header stb_header(std::span<const uint8_t> bytes, const std::string& name);
Image decode_stb(std::span<const uint8_t> bytes, const Header& header, const std::string& name);

}  // namespace vtl::io::codecs
