// y = x W^T + b, with optional low-rank adapters (Hu et al., "LoRA", 2021).
#pragma once

#include <string>
#include <vector>

#include "vtl/core/tensor.h"
#include "vtl/kernels/activation_kind.h"
#include "vtl/layers/parameter.h"
#include "vtl/layers/visitor.h"

namespace vtl::layers {

// Adds scale * (x A^T) B^T to rows [row_begin, row_begin + rows of B) of a layer's output. `part` is empty for the whole
// layer, or names a slice of a fused one: q, k, v of qkv.
struct LowRank {
  std::string part;
  int64_t row_begin = 0;
  Parameter a;  // linear: [rank, in]; convolution: [rank, kh, kw, in]
  Parameter b;  // linear: [out rows, rank]; convolution: [out rows, 1, 1, rank]
  float scale = 1.0f;

  int64_t rank() const { return a.shape()[0]; }
  void visit(Visitor& v);
};

struct Linear {
  Parameter weight;  // [out, in]
  Parameter bias;    // [out] or absent
  std::vector<LowRank> low_rank;

  Linear() = default;
  enum class Bias { no, yes };
  Linear(int64_t in, int64_t out, Bias bias = Bias::yes);

  int64_t in() const { return weight.shape()[1]; }
  int64_t out() const { return weight.shape()[0]; }
  void visit(Visitor& v);
};

// x: [..., in] -> activation(x W^T + b) [..., out]. `residual`, when defined, has the shape of the output and is added before
// the activation.
Tensor linear(const Tensor& x, const Linear& layer, const Tensor& residual = {},
              kernels::Activation activation = kernels::Activation::none);
// The same from tensors: weight [out, in] of x's dtype, bias f32 [out] or undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual = {},
              kernels::Activation activation = kernels::Activation::none);

}  // namespace vtl::layers
