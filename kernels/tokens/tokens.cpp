#include "vtl/kernels/tokens/tokens.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(insert_tokens_forward)
VTL_DECLARE_BACKENDS(insert_tokens_backward)
VTL_DECLARE_BACKENDS(pool_tokens_forward)
VTL_DECLARE_BACKENDS(pool_tokens_backward)

void insert_tokens_forward(Stream& stream, DType dtype, const void* patches, PrefixTokens prefix,
                           const float* positions, void* y, TokensDims dims) {
  VTL_DISPATCH(insert_tokens_forward, stream)(stream, dtype, patches, prefix, positions, y, dims);
}

void insert_tokens_backward(Stream& stream, DType dtype, const void* dy, const int64_t (&prefix_count)[kMaxPrefixes],
                            InsertTokensGrads grads, TokensDims dims) {
  VTL_DISPATCH(insert_tokens_backward, stream)(stream, dtype, dy, prefix_count, grads, dims);
}

void pool_tokens_forward(Stream& stream, DType dtype, const void* x, void* y, PoolTokensDims dims) {
  VTL_DISPATCH(pool_tokens_forward, stream)(stream, dtype, x, y, dims);
}

void pool_tokens_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolTokensDims dims) {
  VTL_DISPATCH(pool_tokens_backward, stream)(stream, dtype, dy, dx, dims);
}

}  // namespace vtl::kernels
