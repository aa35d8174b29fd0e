// Layer normalisation over the last dimension (Ba, Kiros, Hinton 2016).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct LayerNormDims {
  int64_t rows, cols;
  float eps;
};

// y[r,c] = (x[r,c] - mean[r]) * rstd[r] * weight[c] + bias[c] with rstd = 1 / sqrt(var + eps), var the biased variance.
// x and y are [rows, cols], dense, of `dtype`; y may be x. weight and bias are f32 [cols], either may be null (1 and 0).
// mean and rstd are f32 [rows] and may be null: then they are not kept. Statistics are computed in f32.
void layernorm_forward(Stream& stream, DType dtype, const void* x, const float* weight, const float* bias, void* y,
                       float* mean, float* rstd, LayerNormDims dims);

// dx[r,c] = rstd[r] * (g[c] - mean_c(g) - xhat[c] * mean_c(g * xhat)) with g = dy * weight, xhat = (x - mean) * rstd.
// dweight[c] = sum_r dy * xhat, dbias[c] = sum_r dy; both f32, summed over rows in an order that depends on rows only.
// dx has `dtype`, and dx.out may be dy.
void layernorm_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* weight, const float* mean,
                        const float* rstd, Dest dx, Dest dweight, Dest dbias, LayerNormDims dims);

}  // namespace vtl::kernels
