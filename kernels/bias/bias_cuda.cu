#include "vtl/kernels/add/add.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/device/reduce_rows.h"

namespace vtl::kernels::VTL_GPU {

void bias_forward(Stream& stream, DType dtype, const void* x, const float* bias, void* y, BiasDims dims) {
  kernels::add_forward(stream, dtype, x, DType::f32, bias, y, {dims.rows, dims.cols});
}

void column_sum(Stream& stream, DType dtype, const void* x, Dest sum, BiasDims dims) {
  if (!sum.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const RowReduction<T, float> job{static_cast<const T*>(x), static_cast<float*>(sum.out), dims.rows * dims.cols, 1,
                                     static_cast<const float*>(sum.addend)};
    reduce_rows<Sum>(stream, "column_sum", job, {1, dims.rows, dims.cols});
  });
}

}  // namespace vtl::kernels::VTL_GPU
