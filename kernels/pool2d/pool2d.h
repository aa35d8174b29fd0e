// Pooling over windows of [batch, height, width, channels]: maximum, average, adaptive average (1 x 1: the global
// average).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct Pool2dDims {
  int64_t batch, height, width, channels;
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
};

enum class PoolRounding : uint8_t { floor, ceil };

// The output extent for one dimension. With ceil, a last window that would start in the padding on the far side is
// dropped (as in PyTorch).
constexpr int64_t pool2d_output_extent(int64_t extent, int64_t kernel, int64_t stride, int64_t pad_begin,
                                       int64_t pad_end, PoolRounding rounding = PoolRounding::floor) {
  const int64_t reach = extent + pad_begin + pad_end - kernel;
  if (reach < 0) return 0;
  int64_t out = reach / stride + 1;
  if (rounding == PoolRounding::ceil && reach % stride != 0 && out * stride < extent + pad_begin) ++out;
  return out;
}

// y[b,i,j,c] = the largest x in the window that starts at (i * stride_height - pad_top, j * stride_width - pad_left);
// padding never wins, NaN does. x, y dense, of `dtype`. argmax (u8, y's shape, may be null) is kernel row *
// kernel_width + kernel column of the winner, the first among equals. Every window must hold an element of x, and no
// more than 256 positions.
void max_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, uint8_t* argmax, const Pool2dDims& dims);

// dx[b,h,w,c] = sum of dy over the windows that (h, w) won.
void max_pool2d_backward(Stream& stream, DType dtype, const void* dy, const uint8_t* argmax, Dest dx,
                         const Pool2dDims& dims);

// What a window's sum is divided by: the kernel's positions that lie in the image or its padding, or only those in the
// image.
enum class PoolDivisor : uint8_t { with_padding, without_padding };

// y = the mean over each window, dx its adjoint; accumulated in f32.
void average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor,
                            const Pool2dDims& dims);
void average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                             const Pool2dDims& dims);

struct AdaptivePool2dDims {
  int64_t batch, height, width, channels;
  int64_t out_height = 1, out_width = 1;
};

// y[b,i,j,c] = mean of x over rows floor(i * height / out_height) .. ceil((i + 1) * height / out_height), columns
// likewise.
void adaptive_average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, AdaptivePool2dDims dims);
void adaptive_average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, AdaptivePool2dDims dims);

}  // namespace vtl::kernels
