#include "vtl/kernels/copy/copy.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(copy_strided)
VTL_DECLARE_BACKENDS(copy_strided_add)
VTL_DECLARE_BACKENDS(cast)

void copy_strided(Stream& stream, size_t element_bytes, const void* from, void* to, const CopyDims& dims) {
  VTL_DISPATCH(copy_strided, stream)(stream, element_bytes, from, to, dims);
}

void copy_strided_add(Stream& stream, DType dtype, const void* from, Dest to, const CopyDims& dims) {
  VTL_DISPATCH(copy_strided_add, stream)(stream, dtype, from, to, dims);
}

void cast(Stream& stream, DType from_dtype, const void* from, DType to_dtype, void* to, int64_t count) {
  VTL_DISPATCH(cast, stream)(stream, from_dtype, from, to_dtype, to, count);
}

}  // namespace vtl::kernels
