// Softmax cross-entropy.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::layers {

struct CrossEntropy {
  float label_smoothing = 0;
  Tensor class_weights;  // f32 [classes] or undefined
};

// logits [rows, classes]; labels i64 [rows], or soft targets f32 [rows, classes]. The weighted mean over rows: one f32.
Tensor softmax_xent(const Tensor& logits, const Tensor& targets, const CrossEntropy& options = {});

}  // namespace vtl::layers
