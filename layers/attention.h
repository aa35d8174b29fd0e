// Multi-head self-attention (Vaswani et al. 2017) from a packed projection.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::layers {

// qkv: [batch, tokens, 3 * heads * head_dim], the last dimension ordered (q, k, v), each by head.
// Returns softmax(q k^T / sqrt(head_dim)) v as [batch, tokens, heads * head_dim].
Tensor self_attention(const Tensor& qkv, int64_t heads);

}  // namespace vtl::layers
