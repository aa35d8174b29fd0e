// First values of parameters, f32, keyed by (seed, name): the same whatever the order in which layers are made.
#pragma once

#include <cstdint>
#include <string_view>

#include "vtl/core/tensor.h"

namespace vtl::layers {

Tensor init_zeros(const Shape& shape);
Tensor init_ones(const Shape& shape);
Tensor init_constant(const Shape& shape, float value);
// Uniform in [-bound, bound).
Tensor init_uniform(const Shape& shape, float bound, uint64_t seed, std::string_view name);
// Normal with the given deviation, cut off at two deviations.
Tensor init_trunc_normal(const Shape& shape, float deviation, uint64_t seed, std::string_view name);
// Normal with deviation sqrt(2 / fan_out) (He et al. 2015).
Tensor init_he_fan_out(const Shape& shape, int64_t fan_out, uint64_t seed, std::string_view name);
// Uniform in (-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for linear layers, and PEFT's for A of a LoRA.
Tensor init_fan_in(const Shape& shape, int64_t fan_in, uint64_t seed, std::string_view name);

}  // namespace vtl::layers
