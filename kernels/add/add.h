// Sums: of two activations, or of an activation and something that repeats (a position embedding).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

// a and y have `repeats` times `count` elements, b has `count`. Without broadcasting repeats is 1.
struct AddDims {
  int64_t repeats, count;
};

// y[r,i] = a[r,i] + b[i], added in f32. a and y have `dtype`, b has `b_dtype` (f32 or bf16). y may be a, or b where
// that is the same size and dtype.
void add_forward(Stream& stream, DType dtype, const void* a, DType b_dtype, const void* b, void* y, AddDims dims);

// da[r,i] = dy[r,i], of `dtype`: with an addend, this is how two gradients of one tensor are summed; da.out may be
// dy. db[i] = sum_r dy[r,i], of `b_dtype`, summed in f32 in the order of r.
void add_backward(Stream& stream, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims);

}  // namespace vtl::kernels
