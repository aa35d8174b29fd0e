#include "vtl/kernels/interpolate/interpolate.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(interpolate_forward)
VTL_DECLARE_BACKENDS(interpolate_backward)

void interpolate_forward(Stream& stream, DType dtype, const void* x, void* y, Interpolation filter, Antialias antialias,
                         const InterpolateDims& dims) {
  VTL_DISPATCH(interpolate_forward, stream)(stream, dtype, x, y, filter, antialias, dims);
}

void interpolate_backward(Stream& stream, DType dtype, const void* dy, Dest dx, Interpolation filter,
                          Antialias antialias, const InterpolateDims& dims) {
  VTL_DISPATCH(interpolate_backward, stream)(stream, dtype, dy, dx, filter, antialias, dims);
}

}  // namespace vtl::kernels
