#include "vtl/kernels/dropout/dropout.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(dropout_forward)
VTL_DECLARE_BACKENDS(dropout_backward)

void dropout_forward(Stream& stream, DType dtype, const void* x, void* y, const StepState* step, DropoutDims dims) {
  VTL_DISPATCH(dropout_forward, stream)(stream, dtype, x, y, step, dims);
}

void dropout_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step, DropoutDims dims) {
  VTL_DISPATCH(dropout_backward, stream)(stream, dtype, dy, dx, step, dims);
}

}  // namespace vtl::kernels
