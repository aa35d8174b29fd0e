// From a grid of patches to a sequence of tokens and back to one vector.
#pragma once

#include <span>

#include "vtl/core/tensor.h"

namespace vtl::layers {

// patches: [batch, count, dim]; prefix: at most three f32 tensors [1, n, dim] put in front, in order; position: f32
// [1, p, dim], added to the last p tokens (all of them, or the patches only), or undefined.
// Returns [batch, prefix + count, dim].
Tensor insert_tokens(const Tensor& patches, std::span<const Tensor> prefix, const Tensor& position);
// The mean of x[:, begin:end]: [batch, tokens, dim] -> [batch, dim]. [0, 1) is the class token.
Tensor pool_tokens(const Tensor& x, int64_t begin, int64_t end);

}  // namespace vtl::layers
