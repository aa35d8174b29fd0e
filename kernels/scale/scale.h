// Products with something smaller: a constant, a vector over channels (LayerScale), a gate for each sample and
// channel (squeeze-and-excitation).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

// y[i] = alpha * x[i]; y may be x.
void scale_forward(Stream& stream, DType dtype, const void* x, float alpha, void* y, int64_t count);
// dx[i] = alpha * dy[i]; dx.out may be dy.
void scale_backward(Stream& stream, DType dtype, const void* dy, float alpha, Dest dx, int64_t count);

struct LayerScaleDims {
  int64_t rows, cols;
};

// y[r,c] = residual[r,c] + gamma[c] * x[r,c] (Touvron et al. 2021). x, residual and y are [rows, cols], dense, of
// `dtype`; residual may be null (0); y may be x or residual. gamma is f32 [cols].
void layer_scale_forward(Stream& stream, DType dtype, const void* x, const float* gamma, const void* residual, void* y,
                         LayerScaleDims dims);
// dx[r,c] = gamma[c] * dy[r,c], of `dtype`; dx.out may be dy. dgamma[c] = sum_r dy[r,c] * x[r,c], f32, in an order
// that depends on dims only; x may be null when it is not wanted. (The gradient of the residual is dy.)
void layer_scale_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* gamma, Dest dx,
                          Dest dgamma, LayerScaleDims dims);

// positions = height * width
struct GateDims {
  int64_t batch, positions, channels;
};

// y[b,p,c] = x[b,p,c] * gate[b,c] (Hu et al. 2018), all of `dtype`; y may be x.
void gate_forward(Stream& stream, DType dtype, const void* x, const void* gate, void* y, GateDims dims);
// dx[b,p,c] = dy[b,p,c] * gate[b,c]; dx.out may be dy. dgate[b,c] = sum_p dy[b,p,c] * x[b,p,c]; x may be null when it
// is not wanted. Both of `dtype`, summed in f32 in an order that depends on dims only.
void gate_backward(Stream& stream, DType dtype, const void* dy, const void* x, const void* gate, Dest dx, Dest dgate,
                   GateDims dims);

}  // namespace vtl::kernels
