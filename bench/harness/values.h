// Data for benches. Values are fixed, in [-1, 1), not all equal.
#pragma once

#include "vtl/core/dtype.h"
#include "vtl/core/shape.h"
#include "vtl/core/tensor.h"

namespace vtl::bench {

// A tensor of f32 or bf16 where the benches run.
Tensor values(const Shape& shape, DType dtype);
Tensor zeros(const Shape& shape, DType dtype);

}  // namespace vtl::bench
