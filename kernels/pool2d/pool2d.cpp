#include "vtl/kernels/pool2d/pool2d.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(max_pool2d_forward)
VTL_DECLARE_BACKENDS(max_pool2d_backward)
VTL_DECLARE_BACKENDS(average_pool2d_forward)
VTL_DECLARE_BACKENDS(average_pool2d_backward)
VTL_DECLARE_BACKENDS(adaptive_average_pool2d_forward)
VTL_DECLARE_BACKENDS(adaptive_average_pool2d_backward)

void max_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, uint8_t* argmax, const Pool2dDims& dims) {
  VTL_DISPATCH(max_pool2d_forward, stream)(stream, dtype, x, y, argmax, dims);
}

void max_pool2d_backward(Stream& stream, DType dtype, const void* dy, const uint8_t* argmax, Dest dx,
                         const Pool2dDims& dims) {
  VTL_DISPATCH(max_pool2d_backward, stream)(stream, dtype, dy, argmax, dx, dims);
}

void average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor,
                            const Pool2dDims& dims) {
  VTL_DISPATCH(average_pool2d_forward, stream)(stream, dtype, x, y, divisor, dims);
}

void average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                             const Pool2dDims& dims) {
  VTL_DISPATCH(average_pool2d_backward, stream)(stream, dtype, dy, dx, divisor, dims);
}

void adaptive_average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, AdaptivePool2dDims dims) {
  VTL_DISPATCH(adaptive_average_pool2d_forward, stream)(stream, dtype, x, y, dims);
}

void adaptive_average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, AdaptivePool2dDims dims) {
  VTL_DISPATCH(adaptive_average_pool2d_backward, stream)(stream, dtype, dy, dx, dims);
}

}  // namespace vtl::kernels
