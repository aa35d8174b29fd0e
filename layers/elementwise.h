// Activations, sums, scales.
#pragma once

#include "vtl/core/tensor.h"
#include "vtl/kernels/activation_kind.h"

namespace vtl::layers {

Tensor activation(const Tensor& x, kernels::Activation kind);
// a + b of one shape.
Tensor add(const Tensor& a, const Tensor& b);
// x * factor.
Tensor scale(const Tensor& x, float factor);
// residual + x * gamma[c], gamma over the last dimension (LayerScale, Touvron et al. 2021).
Tensor layer_scale(const Tensor& x, const Tensor& gamma, const Tensor& residual);
// x[b, h, w, c] * gate[b, c] (squeeze-and-excitation, Hu et al. 2018).
Tensor gate(const Tensor& x, const Tensor& gate);

}  // namespace vtl::layers
