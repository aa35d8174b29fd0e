// Antialiased resizing with the results of Pillow 13, bit by bit.
#pragma once

#include <cstdint>

#include "vtl/io/image.h"
#include "vtl/io/preprocessing.h"

namespace vtl::io {

// A rectangle of the source in pixels; edges may lie between pixels.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};

// A rectangle of the result in whole pixels.
struct Window {
  int64_t left = 0, top = 0, width = 0, height = 0;
};

struct Resize {
  Box box;                        // what of the source becomes the result
  int64_t width = 0, height = 0;  // of the whole result
  Interpolation interpolation = Interpolation::bilinear;
  Window window;  // what of the result is wanted: the rest costs nothing
};

// Writes resize.window to `out`, whose rows are `stride` bytes apart. The filter widens with the reduction and, at the
// edges of the box, sees the pixels beyond it (crop the view to keep them out). One axis after the other, 8 bits
// between; weights have 22 fractional bits. Throws bad_argument for an empty source, box or window, or one that leaves
// its frame.
void resize_into(const ImageView& source, const Resize& resize, uint8_t* out, int64_t stride);

// The whole source as width x height.
Image resize_image(const ImageView& source, int64_t width, int64_t height, Interpolation interpolation);

}  // namespace vtl::io
