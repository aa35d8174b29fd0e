// Layer normalisation over the last dimension.
#pragma once

#include "vtl/core/tensor.h"
#include "vtl/layers/parameter.h"
#include "vtl/layers/visitor.h"

namespace vtl::layers {

struct LayerNorm {
  Parameter weight, bias;  // [cols]
  float eps = 1e-6f;

  LayerNorm() = default;
  explicit LayerNorm(int64_t cols, float eps = 1e-6f);
  void visit(Visitor& v);
};

// x: [..., cols]
Tensor layernorm(const Tensor& x, const LayerNorm& layer);
Tensor layernorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps);

}  // namespace vtl::layers
