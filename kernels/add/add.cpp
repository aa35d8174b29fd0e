#include "vtl/kernels/add/add.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(add_forward)
VTL_DECLARE_BACKENDS(add_backward)

void add_forward(Stream& stream, DType dtype, const void* a, DType b_dtype, const void* b, void* y, AddDims dims) {
  VTL_DISPATCH(add_forward, stream)(stream, dtype, a, b_dtype, b, y, dims);
}

void add_backward(Stream& stream, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims) {
  VTL_DISPATCH(add_backward, stream)(stream, dtype, dy, da, b_dtype, db, dims);
}

}  // namespace vtl::kernels
