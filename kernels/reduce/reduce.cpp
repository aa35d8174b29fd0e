#include "vtl/kernels/reduce/reduce.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(reduce_forward)
VTL_DECLARE_BACKENDS(reduce_backward)
VTL_DECLARE_BACKENDS(argmax)

void reduce_forward(Stream& stream, DType dtype, const void* x, DType out_dtype, void* y, Reduction reduction,
                    ReduceDims dims) {
  VTL_DISPATCH(reduce_forward, stream)(stream, dtype, x, out_dtype, y, reduction, dims);
}

void reduce_backward(Stream& stream, DType dtype_dy, const void* dy, DType dtype, Dest dx, Reduction reduction,
                     ReduceDims dims) {
  VTL_DISPATCH(reduce_backward, stream)(stream, dtype_dy, dy, dtype, dx, reduction, dims);
}

void argmax(Stream& stream, DType dtype, const void* x, int32_t* index, ReduceDims dims) {
  VTL_DISPATCH(argmax, stream)(stream, dtype, x, index, dims);
}

}  // namespace vtl::kernels
