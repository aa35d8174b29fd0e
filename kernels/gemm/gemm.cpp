#include "vtl/kernels/gemm/gemm.h"

#include "vtl/kernels/dispatch.h"
#include "vtl/kernels/gemm/activate_rows.h"
#include "vtl/kernels/gemm/gemm_cublaslt.h"
#include "vtl/kernels/gemm/gemm_onednn.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(gemm)
VTL_DECLARE_BACKENDS(activate_rows)

namespace {

bool uses_onednn([[maybe_unused]] const Stream& stream) {
#if VTL_HAS_ONEDNN
  return stream.device().kind == DeviceKind::cpu && cpu_level() != CpuLevel::plain;
#else
  return false;
#endif
}

void check_dtypes(DType a, DType b, DType c) {
  const bool known = a == b && ((a == DType::f32 && c == DType::f32) || (a == DType::bf16 && is_float(c)));
  if (!known)
    fail(ErrorKind::unsupported, "gemm: ", name(a), " x ", name(b), " -> ", name(c),
         " is not there; give f32 x f32 -> f32, bf16 x bf16 -> bf16 or bf16 x bf16 -> f32");
}

// A batch whose matrices lie one below the other is one taller matrix when all share op(B).
GemmDims flattened(const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& d) {
  const bool flattens = d.batch > 1 && b.batch_stride == 0 && a.transpose == Transpose::no &&
                        a.batch_stride == d.m * a.stride && c.batch_stride == d.m * c.stride;
  return flattens ? GemmDims{d.m * d.batch, d.n, d.k, 1} : d;
}

// Our own kernels on a GPU take a slice along. A library's product is faster by more than another pass over C.
bool takes_slices([[maybe_unused]] const Stream& stream) {
#if VTL_HAS_CUBLASLT
  if (stream.device().kind == DeviceKind::cuda) return !cublaslt::is_there();
#endif
  return stream.device().kind != DeviceKind::cpu;
}

// The same in two products: the slice goes last, or first where an activation comes last.
void multiply_with_slice(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims,
                         float alpha, const Epilogue& epilogue, const PackedWeight* packed, const GemmSlice& slice) {
  const GemmDims slice_dims{dims.m, dims.n, slice.k};
  if (epilogue.activation == Activation::none && !epilogue.preactivation) {
    gemm(stream, a, b, c, dims, alpha, epilogue, packed);
    gemm(stream, slice.a, slice.b, c, slice_dims, alpha, {.scale = epilogue.scale, .residual = c.data});
  } else {
    gemm(stream, slice.a, slice.b, c, slice_dims, alpha, {.scale = epilogue.scale, .residual = epilogue.residual});
    Epilogue last = epilogue;
    last.residual = c.data;
    gemm(stream, a, b, c, dims, alpha, last, packed);
  }
}

}  // namespace

void gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& all, float alpha,
          const Epilogue& epilogue, const PackedWeight* packed, const GemmSlice& slice) {
  check_dtypes(a.dtype, b.dtype, c.dtype);
  const GemmDims dims = flattened(a, b, c, all);
  if (dims.m <= 0 || dims.n <= 0 || dims.batch <= 0) return;
  if (slice.k > 0 && !takes_slices(stream))
    return multiply_with_slice(stream, a, b, c, dims, alpha, epilogue, packed, slice);
#if VTL_HAS_CUBLASLT
  if (stream.device().kind == DeviceKind::cuda && cublaslt::try_gemm(stream, a, b, c, dims, alpha, epilogue)) return;
#endif
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream) && onednn::try_gemm(stream, a, b, c, dims, alpha, epilogue, packed)) return;
#endif
  VTL_DISPATCH(gemm, stream)(stream, a, b, c, dims, alpha, epilogue, packed, slice);
}

PackedWeightPtr gemm_pack([[maybe_unused]] Stream& stream, const Matrix& b, [[maybe_unused]] const GemmDims& dims) {
  check_dtypes(b.dtype, b.dtype, b.dtype);
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream)) return onednn::pack_gemm(stream, b, dims);
#endif
  return nullptr;
}

void activate_rows(Stream& stream, Activation activation, DType dtype, const void* x, void* y, int64_t rows,
                   int64_t cols, int64_t stride) {
  VTL_DISPATCH(activate_rows, stream)(stream, activation, dtype, x, y, rows, cols, stride);
}

}  // namespace vtl::kernels
