// From a grid of patches to a sequence of tokens and back to one vector.
#pragma once

#include "vtl/core/tensor.h"
#include "vtl/layers/parameter.h"

namespace vtl::layers {

// Where the position embedding goes: onto all tokens, or onto the patches only (before the others are put in front).
enum class PositionScope { all_tokens, patches };

// patches: [batch, count, dim]; prefix: parameters [1, n, dim] put in front, in order; position: [1, tokens or count, dim].
// Returns [batch, prefix + count, dim].
Tensor assemble_tokens(const Tensor& patches, const std::vector<const Parameter*>& prefix, const Parameter& position,
                       PositionScope scope);
// x[:, index]: [batch, tokens, dim] -> [batch, dim]
Tensor select_token(const Tensor& x, int64_t index);
// The mean of x[:, first:]: [batch, tokens, dim] -> [batch, dim]
Tensor mean_tokens(const Tensor& x, int64_t first);

}  // namespace vtl::layers
