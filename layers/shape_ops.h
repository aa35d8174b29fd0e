// Differentiable rearrangements.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::layers {

// Rows [begin, end) of dimension `dim`, as a dense tensor.
Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end);
Tensor permute(const Tensor& x, std::initializer_list<int> order);
Tensor cast(const Tensor& x, DType dtype);

}  // namespace vtl::layers
