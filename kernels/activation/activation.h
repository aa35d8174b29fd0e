// Element-wise nonlinearities, with an optional bias for each column added first.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/activation_kind.h"

namespace vtl::kernels {

struct ActivationDims {
  int64_t rows, cols;
};

// y[r,c] = f(x[r,c] + bias[c]). x and y are [rows, cols], dense, of `dtype`; y may be x. bias is f32 [cols] or null.
// f is evaluated in f32, within 2e-7 * (1 + |x|) of its definition.
void activation_forward(Stream& stream, DType dtype, Activation kind, const void* x, const float* bias, void* y,
                        ActivationDims dims);

// Whether activation_backward of `kind` can work from y alone, so that x need not be kept: none, relu, relu6,
// sigmoid.
constexpr bool activation_backward_takes_output(Activation kind) {
  return kind == Activation::none || kind == Activation::relu || kind == Activation::relu6 ||
         kind == Activation::sigmoid;
}

// dx[r,c] = dy[r,c] * f'(x[r,c] + bias[c]), of `dtype`; dx.out may be dy. dbias[c] = sum_r dx[r,c] (without the
// addend of dx), f32, wanted with or without a bias, summed over rows in an order that depends on dims only. Either x
// (with the bias of the forward) or y is given, the other one null; y only where the function above says so. relu has
// derivative 0 at 0, relu6 also at 6.
void activation_backward(Stream& stream, DType dtype, Activation kind, const void* dy, const void* x, const float* bias,
                         const void* y, Dest dx, Dest dbias, ActivationDims dims);

}  // namespace vtl::kernels
