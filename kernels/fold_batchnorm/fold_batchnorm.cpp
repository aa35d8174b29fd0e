#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(fold_batchnorm)

void fold_batchnorm(Stream& stream, DType dtype, const void* w, const float* w_bias, FoldedStatistics statistics, void* folded,
                    float* folded_bias, FoldDims dims) {
  VTL_DISPATCH(fold_batchnorm, stream)(stream, dtype, w, w_bias, statistics, folded, folded_bias, dims);
}

}  // namespace vtl::kernels
