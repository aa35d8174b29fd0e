// The gradients of a low-rank member of a linear layer, y += scale * (x A^T) B^T (Hu et al., "LoRA", 2021).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct LowRankDims {
  int64_t rows, in, out, rank;
  int64_t dy_stride;  // elements from one row of dy to the next; all else is dense
};

// u [rows, rank] is scale * x A^T, as forward computed it.
//   du = scale * dy B    [rows, rank]: what goes on to x as dx += du A
//   db = dy^T u          [out, rank], f32
//   da = du^T x          [rank, in], f32
// dy [rows, out], x [rows, in], b [out, rank], u and du are of `dtype`, f32 or bf16. x may be null where da is not
// wanted, and so may du where neither it nor da is. A Dest that is not wanted costs nothing.
void low_rank_backward(Stream& stream, DType dtype, const LowRankDims& dims, const void* dy, const void* x,
                       const void* u, const void* b, float scale, void* du, Dest da, Dest db);

// The same as three matrix products, on any device: what backends do that have nothing better.
void low_rank_products(Stream& stream, DType dtype, const LowRankDims& dims, const void* dy, const void* x,
                       const void* u, const void* b, float scale, void* du, Dest da, Dest db);

}  // namespace vtl::kernels
