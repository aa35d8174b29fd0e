// Sum, mean, maximum and argmax over the middle dimension of [outer, count, inner], which covers rows (inner = 1),
// columns (outer = 1) and anything between.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct ReduceDims {
  int64_t outer, count, inner;
};

enum class Reduction : uint8_t { sum, mean, max };

// y[o,i] = the reduction of x[o,:,i], accumulated in f32 in an order fixed by dims. x is of `dtype`, y of `out_dtype`
// (f32 or bf16). count = 0 gives 0 for sum, NaN for mean and -inf for max. A NaN in x wins the maximum.
void reduce_forward(Stream& stream, DType dtype, const void* x, DType out_dtype, void* y, Reduction reduction,
                    ReduceDims dims);

// dx[o,n,i] = dy[o,i] for sum, dy[o,i] / count for mean; dy of `dtype_dy`, dx of `dtype`. Not for max.
void reduce_backward(Stream& stream, DType dtype_dy, const void* dy, DType dtype, Dest dx, Reduction reduction,
                     ReduceDims dims);

// index[o,i] = n of the largest x[o,n,i], the first among equals; a NaN is larger than any number. count must be
// positive.
void argmax(Stream& stream, DType dtype, const void* x, int32_t* index, ReduceDims dims);

}  // namespace vtl::kernels
