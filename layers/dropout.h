// Dropout (Srivastava et al. 2014) and stochastic depth (Huang et al. 2016). Off outside training. Masks are functions of
// (seed, step, layer, element or sample), recomputed in backward.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::layers {

struct Dropout {
  float p = 0;
  uint32_t layer = 0;  // tells the random streams of layers apart
};

Tensor dropout(const Tensor& x, const Dropout& layer);
// residual + x * keep[sample] / (1 - p); residual may be undefined.
Tensor drop_path(const Tensor& x, const Dropout& layer, const Tensor& residual);

}  // namespace vtl::layers
