// A vector added to every row, and the sum over rows that is its gradient.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct BiasDims {
  int64_t rows, cols;
};

// y[r,c] = x[r,c] + bias[c]. x and y are [rows, cols], dense, of `dtype`; y may be x. bias is f32 [cols].
void bias_forward(Stream& stream, DType dtype, const void* x, const float* bias, void* y, BiasDims dims);

// sum[c] = sum_r x[r,c], f32, in an order that depends on dims only. x is [rows, cols], dense, of `dtype`.
void column_sum(Stream& stream, DType dtype, const void* x, Dest sum, BiasDims dims);

}  // namespace vtl::kernels
