// Convolutions with one filter per channel: conv2d.cpp sends them here. All contracts are those of conv2d.h,
// for dims with groups = in_channels = out_channels; the weight is [channels, kernel_h, kernel_w].
#pragma once

#include "vtl/kernels/conv2d/conv2d.h"

namespace vtl::kernels {

// x, w, y: f32 f32 f32, bf16 bf16 bf16 or bf16 bf16 f32.
void depthwise_forward(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* w, void* y,
                       DType y_dtype, const Epilogue& epilogue);
// dy and w of `dtype`, dx of `dx_dtype`.
void depthwise_backward_data(Stream& stream, const Conv2dDims& dims, DType dtype, const void* dy, const void* w,
                             Dest dx, DType dx_dtype);
// dweight is f32.
void depthwise_backward_weight(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* dy,
                               Dest dweight);

}  // namespace vtl::kernels
