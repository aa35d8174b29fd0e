// What matrix products and convolutions do to their sums before they write them.
#pragma once

#include <memory>

#include "vtl/kernels/activation_kind.h"

namespace vtl::kernels {

// out[i, c] = activation(sum[i, c] * scale[c] + bias[c] + residual[i, c]), in f32, where c is the output channel (the
// column of a matrix product). Null fields do nothing. An eager step that accumulates a gradient is `residual = out`.
struct Epilogue {
  const float* scale = nullptr;    // [channels]
  const float* bias = nullptr;     // [channels]
  const void* residual = nullptr;  // shape, strides and dtype of the output; may be the output
  Activation activation = Activation::none;
  void* preactivation = nullptr;  // shape, strides and dtype of the output: gets the value before the activation
};

// A weight in the layout that a kernel likes best, for weights that do not change (frozen, inference): it saves a
// reorder at each call. What it holds is the kernel's own business. Whoever owns it drops it when the weight changes.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
};
using PackedWeightPtr = std::shared_ptr<const PackedWeight>;

}  // namespace vtl::kernels
