#include "vtl/kernels/low_rank/low_rank.h"

namespace vtl::kernels::VTL_CPU {

void low_rank_backward(Stream& stream, DType dtype, const LowRankDims& dims, const void* dy, const void* x,
                       const void* u, const void* b, float scale, void* du, Dest da, Dest db) {
  low_rank_products(stream, dtype, dims, dy, x, u, b, scale, du, da, db);
}

}  // namespace vtl::kernels::VTL_CPU
