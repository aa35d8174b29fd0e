#include "vtl/kernels/layernorm/layernorm.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(layernorm_forward)
VTL_DECLARE_BACKENDS(layernorm_backward)

void layernorm_forward(Stream& stream, DType dtype, const void* x, const float* weight, const float* bias, void* y,
                       float* mean, float* rstd, LayerNormDims dims) {
  VTL_DISPATCH(layernorm_forward, stream)(stream, dtype, x, weight, bias, y, mean, rstd, dims);
}

void layernorm_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* weight, const float* mean,
                        const float* rstd, Dest dx, Dest dweight, Dest dbias, LayerNormDims dims) {
  VTL_DISPATCH(layernorm_backward, stream)(stream, dtype, dy, x, weight, mean, rstd, dx, dweight, dbias, dims);
}

}  // namespace vtl::kernels
