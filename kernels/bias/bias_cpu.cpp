#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/cpu/columns.h"

namespace vtl::kernels::VTL_CPU {

void bias_forward(Stream& stream, DType dtype, const void* x, const float* bias, void* y, BiasDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto* in = static_cast<const T*>(x);
    auto* out = static_cast<T*>(y);
    rows_with_column_sum(stream, dims.rows, dims.cols, Dest{}, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
      const vfloat value = load_n(in + r * dims.cols + c, lanes) + load_n(bias + c, lanes);
      store_n(out + r * dims.cols + c, value, lanes);
      return value;
    });
  });
}

void column_sum(Stream& stream, DType dtype, const void* x, Dest sum, BiasDims dims) {
  if (!sum.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const auto* in = static_cast<const T*>(x);
    rows_with_column_sum(stream, dims.rows, dims.cols, sum, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
      return load_n(in + r * dims.cols + c, lanes);
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
