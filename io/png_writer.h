// Pictures as PNG files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "vtl/io/image.h"

namespace vtl::io {

// 8-bit RGB without loss, not interlaced; the same bytes for the same pixels. Throws bad_argument for a picture without
// pixels, unsupported where this build has no libpng.
std::vector<uint8_t> encode_png(const ImageView& image);

// The same as a file, replacing an older one; its folder must be there. An io error names the path.
void write_png(const std::filesystem::path& path, const ImageView& image);

}  // namespace vtl::io
