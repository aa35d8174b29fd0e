#include "vtl/kernels/batchnorm/batchnorm.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(batchnorm_statistics)
VTL_DECLARE_BACKENDS(batchnorm_finish)
VTL_DECLARE_BACKENDS(batchnorm_running_rstd)
VTL_DECLARE_BACKENDS(batchnorm_apply)
VTL_DECLARE_BACKENDS(batchnorm_backward_reduce)
VTL_DECLARE_BACKENDS(batchnorm_backward_apply)
VTL_DECLARE_BACKENDS(batchnorm_frozen_backward)

void batchnorm_statistics(Stream& stream, DType dtype, const void* x, float* moments, BatchNormDims dims) {
  VTL_DISPATCH(batchnorm_statistics, stream)(stream, dtype, x, moments, dims);
}

void batchnorm_finish(Stream& stream, const float* moments, float* mean, float* rstd, float* running_mean,
                      float* running_var, int64_t* num_batches_tracked, BatchNormFinish finish) {
  VTL_DISPATCH(batchnorm_finish, stream)
  (stream, moments, mean, rstd, running_mean, running_var, num_batches_tracked, finish);
}

void batchnorm_running_rstd(Stream& stream, const float* running_var, float* rstd, int64_t channels, float eps) {
  VTL_DISPATCH(batchnorm_running_rstd, stream)(stream, running_var, rstd, channels, eps);
}

void batchnorm_apply(Stream& stream, DType dtype, const void* x, BatchNormScale scale, const void* residual,
                     Activation activation, void* y, BatchNormDims dims) {
  VTL_DISPATCH(batchnorm_apply, stream)(stream, dtype, x, scale, residual, activation, y, dims);
}

void batchnorm_backward_reduce(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, float* sums, Dest dweight, Dest dbias, void* g,
                               BatchNormDims dims) {
  VTL_DISPATCH(batchnorm_backward_reduce, stream)
  (stream, dtype, dy, saved, scale, activation, sums, dweight, dbias, g, dims);
}

void batchnorm_backward_apply(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                              Activation activation, const float* sums, int64_t total_rows, Dest dx, Dest dresidual,
                              BatchNormDims dims) {
  VTL_DISPATCH(batchnorm_backward_apply, stream)
  (stream, dtype, dy, saved, scale, activation, sums, total_rows, dx, dresidual, dims);
}

void batchnorm_frozen_backward(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, Dest dx, Dest dresidual, Dest dweight, Dest dbias,
                               BatchNormDims dims) {
  VTL_DISPATCH(batchnorm_frozen_backward, stream)
  (stream, dtype, dy, saved, scale, activation, dx, dresidual, dweight, dbias, dims);
}

}  // namespace vtl::kernels
