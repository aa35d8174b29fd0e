// From decoded images to the network's input.
#pragma once

#include <cstdint>

#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct ImageDims {
  int64_t pixels;  // batch * height * width
  int64_t channels;
};

// y[p,c] = (image[p,c] / 255 - mean[c]) / std[c], y of `dtype` (f32 or bf16), both dense NHWC. mean and std are f32
// [channels] on the stream's device.
void image_normalize(Stream& stream, DType dtype, const uint8_t* image, void* y, const float* mean, const float* std,
                     ImageDims dims);

}  // namespace vtl::kernels
