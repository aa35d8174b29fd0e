// Data for benches: fixed, in [-1, 1), not all equal.
#pragma once

#include "vtl/core/dtype.h"
#include "vtl/core/shape.h"
#include "vtl/core/tensor.h"

namespace vtl::bench {

// A CPU tensor of f32 or bf16.
Tensor values(const Shape& shape, DType dtype);

}  // namespace vtl::bench
