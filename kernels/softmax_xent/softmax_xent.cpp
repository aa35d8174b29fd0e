#include "vtl/kernels/softmax_xent/softmax_xent.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(softmax_xent_forward)
VTL_DECLARE_BACKENDS(softmax_xent_backward)
VTL_DECLARE_BACKENDS(softmax_forward)

void softmax_xent_forward(Stream& stream, DType dtype, const void* logits, XentTarget target, float* row_loss,
                          float* mean_loss, float* lse, SoftmaxXentDims dims) {
  VTL_DISPATCH(softmax_xent_forward, stream)(stream, dtype, logits, target, row_loss, mean_loss, lse, dims);
}

void softmax_xent_backward(Stream& stream, DType dtype, const void* logits, XentTarget target, const float* lse,
                           const float* drow_loss, const float* dmean_loss, Dest dlogits, SoftmaxXentDims dims) {
  VTL_DISPATCH(softmax_xent_backward, stream)(stream, dtype, logits, target, lse, drow_loss, dmean_loss, dlogits, dims);
}

void softmax_forward(Stream& stream, DType dtype, const void* logits, float* probabilities, SoftmaxXentDims dims) {
  VTL_DISPATCH(softmax_forward, stream)(stream, dtype, logits, probabilities, dims);
}

}  // namespace vtl::kernels
