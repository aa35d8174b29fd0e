// Resizing of NHWC activations and of position embeddings.
#pragma once

#include "vtl/core/tensor.h"
#include "vtl/kernels/interpolate/interpolate.h"

namespace vtl::layers {

// x: [batch, height, width, channels] -> [batch, out_height, out_width, channels].
Tensor interpolate(const Tensor& x, int64_t out_height, int64_t out_width, kernels::Interpolation filter,
                   kernels::Antialias antialias);

}  // namespace vtl::layers
