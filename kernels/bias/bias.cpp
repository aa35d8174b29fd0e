#include "vtl/kernels/bias/bias.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(bias_forward)
VTL_DECLARE_BACKENDS(column_sum)

void bias_forward(Stream& stream, DType dtype, const void* x, const float* bias, void* y, BiasDims dims) {
  VTL_DISPATCH(bias_forward, stream)(stream, dtype, x, bias, y, dims);
}

void column_sum(Stream& stream, DType dtype, const void* x, Dest sum, BiasDims dims) {
  VTL_DISPATCH(column_sum, stream)(stream, dtype, x, sum, dims);
}

}  // namespace vtl::kernels
