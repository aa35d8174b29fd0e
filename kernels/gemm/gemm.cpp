#include "vtl/kernels/gemm/gemm.h"

#include "vtl/kernels/dispatch.h"
#include "vtl/kernels/gemm/activate_rows.h"
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

}  // namespace

void gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
          const Epilogue& epilogue, const PackedWeight* packed) {
  check_dtypes(a.dtype, b.dtype, c.dtype);
  if (dims.m <= 0 || dims.n <= 0 || dims.batch <= 0) return;
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream) && onednn::try_gemm(stream, a, b, c, dims, alpha, epilogue, packed)) return;
#endif
  VTL_DISPATCH(gemm, stream)(stream, a, b, c, dims, alpha, epilogue, packed);
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
