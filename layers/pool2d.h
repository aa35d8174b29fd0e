// Pooling over NHWC activations.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::layers {

struct Pool2dShape {
  int64_t kernel = 2, stride = 2, pad = 0;
};

// Padding counts as minus infinity.
Tensor max_pool2d(const Tensor& x, const Pool2dShape& shape);
// Average over the pixels inside the image only (count_include_pad = false), windows that begin inside it (ceil_mode).
Tensor avg_pool2d(const Tensor& x, const Pool2dShape& shape);
// [batch, height, width, channels] -> [batch, channels]
Tensor global_avg_pool(const Tensor& x);

}  // namespace vtl::layers
