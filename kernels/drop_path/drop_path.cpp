#include "vtl/kernels/drop_path/drop_path.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(drop_path_forward)
VTL_DECLARE_BACKENDS(drop_path_backward)

void drop_path_forward(Stream& stream, DType dtype, const void* x, const void* residual, void* y, const StepState* step,
                       DropPathDims dims) {
  VTL_DISPATCH(drop_path_forward, stream)(stream, dtype, x, residual, y, step, dims);
}

void drop_path_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step,
                        DropPathDims dims) {
  VTL_DISPATCH(drop_path_backward, stream)(stream, dtype, dy, dx, step, dims);
}

}  // namespace vtl::kernels
