#include "vtl/kernels/low_rank/low_rank.h"

#include "vtl/kernels/dispatch.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(low_rank_backward)

void low_rank_backward(Stream& stream, DType dtype, const LowRankDims& dims, const void* dy, const void* x,
                       const void* u, const void* b, float scale, void* du, Dest da, Dest db) {
  VTL_DISPATCH(low_rank_backward, stream)(stream, dtype, dims, dy, x, u, b, scale, du, da, db);
}

void low_rank_products(Stream& stream, DType dtype, const LowRankDims& d, const void* dy, const void* x, const void* u,
                       const void* b, float scale, void* du, Dest da, Dest db) {
  if (du)
    gemm(stream, {dy, dtype, d.dy_stride}, {b, dtype, d.rank}, {du, dtype, d.rank}, {d.rows, d.rank, d.out}, scale);
  if (db.wanted())
    gemm(stream, {dy, dtype, d.dy_stride, Transpose::yes}, {u, dtype, d.rank}, {db.out, DType::f32, d.rank},
         {d.out, d.rank, d.rows}, 1, {.residual = db.addend});
  if (da.wanted())
    gemm(stream, {du, dtype, d.rank, Transpose::yes}, {x, dtype, d.in}, {da.out, DType::f32, d.in},
         {d.rank, d.in, d.rows}, 1, {.residual = da.addend});
}

}  // namespace vtl::kernels
