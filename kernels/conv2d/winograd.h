// 3 x 3 convolutions of stride 1 in f32 by Winograd's F(4x4, 3x3) on the CPU: conv2d.cpp sends them here. Four times
// fewer multiplications than the definition, for transforms of the input, the weight and the output (Lavin and Gray
// 2015).
#pragma once

#include "vtl/kernels/conv2d/conv2d.h"

namespace vtl::kernels {

// A kernel of 3 x 3, stride 1, no dilation, one group, channels that fill vectors, and an image that is worth it.
bool winograd_suits(const Conv2dDims& dims, DType dtype);

// The number of floats of a transformed weight.
int64_t winograd_weight_size(const Conv2dDims& dims);
// w [out_channels, 3, 3, in_channels] transformed for one direction.
void winograd_transform_weight(Stream& stream, const Conv2dDims& dims, ConvDirection direction, const float* w,
                               float* transformed);

// As in conv2d.h, with a transformed weight.
void winograd_forward(Stream& stream, const Conv2dDims& dims, const float* x, const float* transformed, float* y,
                      const Epilogue& epilogue);
void winograd_backward_data(Stream& stream, const Conv2dDims& dims, const float* dy, const float* transformed, Dest dx);
void winograd_backward_weight(Stream& stream, const Conv2dDims& dims, const float* x, const float* dy, Dest dweight);

}  // namespace vtl::kernels
