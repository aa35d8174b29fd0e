// Two-dimensional convolution, NHWC, with groups, strides, dilation and padding per side.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/epilogue.h"

namespace vtl::kernels {

struct Conv2dDims {
  int64_t batch, in_h, in_w, in_channels, out_channels;
  int64_t kernel_h, kernel_w;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;  // zeros
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;  // divides in_channels and out_channels; output group g reads input group g

  int64_t out_h() const { return (in_h + pad_top + pad_bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1; }
  int64_t out_w() const { return (in_w + pad_left + pad_right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1; }
  // One filter for each channel.
  bool is_depthwise() const { return groups == in_channels && groups == out_channels; }
  // Every input position is read at most once (the patch embedding of a ViT).
  bool is_patches() const {
    return groups == 1 && kernel_h == stride_h && kernel_w == stride_w && pad_top == 0 && pad_bottom == 0 &&
           pad_left == 0 && pad_right == 0 && dilation_h == 1 && dilation_w == 1;
  }
  // Every position on its own: a matrix product with a row for each.
  bool is_pointwise() const { return is_patches() && kernel_h == 1 && kernel_w == 1; }
};

// y[b, i, j, o] = epilogue(sum over p, q, c of
//                 x[b, i * stride_h + p * dilation_h - pad_top, j * stride_w + q * dilation_w - pad_left, g * C + c] *
//                 w[o, p, q, c])
// with C = in_channels / groups and g = o / (out_channels / groups); x is 0 outside. Sums in f32.
// x [batch, in_h, in_w, in_channels], w [out_channels, kernel_h, kernel_w, C], y [batch, out_h, out_w, out_channels];
// dense. dtypes of x, w, y: f32 f32 f32, bf16 bf16 bf16, bf16 bf16 f32; others are `unsupported`. y does not overlap x
// or w. The epilogue's scale and bias have out_channels values. `packed` is null or conv2d_pack of this w for forward.
void conv2d_forward(Stream& stream, const Conv2dDims& dims, const void* x, DType x_dtype, const void* w, DType w_dtype,
                    void* y, DType y_dtype, const Epilogue& epilogue = {}, const PackedWeight* packed = nullptr);

// dx = the gradient of sum(y * dy) with the plain convolution as y (no epilogue). dtypes of dy, w, dx as of x, w, y
// above. dx.out does not overlap dy. `packed` is null or conv2d_pack of this w for backward_data.
void conv2d_backward_data(Stream& stream, const Conv2dDims& dims, const void* dy, DType dy_dtype, const void* w,
                          DType w_dtype, Dest dx, DType dx_dtype, const PackedWeight* packed = nullptr);

// dweight and dbias (the sum of dy over batch and positions) are f32; x and dy are both f32 or both bf16.
void conv2d_backward_weight(Stream& stream, const Conv2dDims& dims, const void* x, DType x_dtype, const void* dy,
                            DType dy_dtype, Dest dweight, Dest dbias);

// `w` packed for one direction at about dims.batch images, on the stream's device. Null when the device gains nothing
// from it.
enum class ConvDirection : uint8_t { forward, backward_data };
PackedWeightPtr conv2d_pack(Stream& stream, const Conv2dDims& dims, ConvDirection direction, const void* w,
                            DType w_dtype);

}  // namespace vtl::kernels
