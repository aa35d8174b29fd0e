// A normalisation with constant statistics multiplied into the weight before it.
#pragma once

#include <cstdint>

#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

// All f32 [rows].
struct FoldedStatistics {
  const float *mean, *variance, *weight, *bias;
};

// `columns` values of the weight belong to each output channel.
struct FoldDims {
  int64_t rows, columns;
  float eps;
};

// s[r] = weight[r] / sqrt(variance[r] + eps); folded[r,c] = w[r,c] * s[r], of `dtype`;
// folded_bias[r] = (w_bias[r] - mean[r]) * s[r] + bias[r], f32. w_bias is f32 [rows] or null (0). folded may be w.
void fold_batchnorm(Stream& stream, DType dtype, const void* w, const float* w_bias, FoldedStatistics statistics, void* folded,
                    float* folded_bias, FoldDims dims);

}  // namespace vtl::kernels
