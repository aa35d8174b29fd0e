#include "vtl/kernels/activation/activation.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(activation_forward)
VTL_DECLARE_BACKENDS(activation_backward)

void activation_forward(Stream& stream, DType dtype, Activation kind, const void* x, const float* bias, void* y,
                        ActivationDims dims) {
  VTL_DISPATCH(activation_forward, stream)(stream, dtype, kind, x, bias, y, dims);
}

void activation_backward(Stream& stream, DType dtype, Activation kind, const void* dy, const void* x, const float* bias,
                         const void* y, Dest dx, Dest dbias, ActivationDims dims) {
  VTL_DISPATCH(activation_backward, stream)(stream, dtype, kind, dy, x, bias, y, dx, dbias, dims);
}

}  // namespace vtl::kernels
