// Resizing of [outer, height, width, channels]: separable bilinear and bicubic filters with PyTorch's conventions
// (align_corners = False; bicubic a = -0.75, and -0.5 with antialias).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

enum class Interpolation : uint8_t { bilinear, bicubic };
// on: the filter widens with the reduction, and its weights are normalised within the image. off: taps outside the
// image repeat its edge.
enum class Antialias : uint8_t { off, on };

struct InterpolateDims {
  int64_t outer, height, width, channels;
  int64_t out_height, out_width;
  // Input pixels for one output pixel; 0: height / out_height, width / out_width.
  double step_height = 0, step_width = 0;
};

// y [outer, out_height, out_width, channels] from x [outer, height, width, channels], dense, of `dtype`; accumulated in
// f32. No extent of an image may be zero.
void interpolate_forward(Stream& stream, DType dtype, const void* x, void* y, Interpolation filter, Antialias antialias,
                         const InterpolateDims& dims);

// dx = the adjoint of the above applied to dy.
void interpolate_backward(Stream& stream, DType dtype, const void* dy, Dest dx, Interpolation filter,
                          Antialias antialias, const InterpolateDims& dims);

}  // namespace vtl::kernels
