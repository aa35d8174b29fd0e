#include "vtl/kernels/conv2d/depthwise.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(depthwise_forward)
VTL_DECLARE_BACKENDS(depthwise_backward_data)
VTL_DECLARE_BACKENDS(depthwise_backward_weight)

void depthwise_forward(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* w, void* y,
                       DType y_dtype, const Epilogue& epilogue) {
  VTL_DISPATCH(depthwise_forward, stream)(stream, dims, dtype, x, w, y, y_dtype, epilogue);
}

void depthwise_backward_data(Stream& stream, const Conv2dDims& dims, DType dtype, const void* dy, const void* w,
                             Dest dx, DType dx_dtype) {
  VTL_DISPATCH(depthwise_backward_data, stream)(stream, dims, dtype, dy, w, dx, dx_dtype);
}

void depthwise_backward_weight(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* dy,
                               Dest dweight) {
  VTL_DISPATCH(depthwise_backward_weight, stream)(stream, dims, dtype, x, dy, dweight);
}

}  // namespace vtl::kernels
