// Softmax and cross entropy in one pass over the logits, with PyTorch's conventions for weights and label smoothing.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct SoftmaxXentDims {
  int64_t rows, classes;
};

// Exactly one of labels (i64 [rows], in [0, classes)) and probabilities (f32 [rows, classes]) is given.
// A label out of range makes the loss of its row, and its gradient, NaN.
struct XentTarget {
  const int64_t* labels = nullptr;
  const float* probabilities = nullptr;
  const float* class_weight = nullptr;  // f32 [classes]; null: 1
  float label_smoothing = 0;            // in [0, 1]
};

// With t[r,c] = (1 - s) * target[r,c] + s / classes (target one-hot for labels), w the class weights and p =
// softmax(logits):
//   row_loss[r] = -sum_c w[c] t[r,c] log p[r,c],   mean_loss[0] = sum_r row_loss[r] / sum_r w[labels[r]],
// the divisor being `rows` for probabilities. Logits are [rows, classes], dense, of `dtype`. row_loss (f32 [rows]),
// mean_loss (f32, one) and lse (f32 [rows], log sum_c exp(logits[r,c]), which backward needs) may each be null.
void softmax_xent_forward(Stream& stream, DType dtype, const void* logits, XentTarget target, float* row_loss,
                          float* mean_loss, float* lse, SoftmaxXentDims dims);

// dlogits[r,c] = g[r] * (p[r,c] * sum_k w[k] t[r,k] - w[c] t[r,c]), of `dtype`, with g[r] = drow_loss[r] +
// dmean_loss[0] / divisor. drow_loss (f32 [rows]) and dmean_loss (f32, one) lie in device memory; a null one counts
// as 0. dlogits.out may be the logits.
void softmax_xent_backward(Stream& stream, DType dtype, const void* logits, XentTarget target, const float* lse,
                           const float* drow_loss, const float* dmean_loss, Dest dlogits, SoftmaxXentDims dims);

// probabilities[r,:] = softmax(logits[r,:]), f32 whatever `dtype` is.
void softmax_forward(Stream& stream, DType dtype, const void* logits, float* probabilities, SoftmaxXentDims dims);

}  // namespace vtl::kernels
