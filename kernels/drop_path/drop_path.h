// Stochastic depth (Huang et al. 2016): whole samples of a residual branch are dropped.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/step_state.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct DropPathDims {
  int64_t batch, count;  // samples, elements of each
  float p;               // probability of dropping, in [0, 1)
  uint32_t layer;        // which drop path of the model: each has numbers of its own
  int64_t first = 0;     // index of sample 0 in the whole batch, where several processes share one
};

// y[b,i] = residual[b,i] + (u(first + b) >= p ? x[b,i] / (1 - p) : 0), u uniform in [0, 1): the numbers of dropout.h
// with RandomStream::drop_path and the sample as index. residual may be null (0); y may be x or residual.
void drop_path_forward(Stream& stream, DType dtype, const void* x, const void* residual, void* y, const StepState* step,
                       DropPathDims dims);

// dx[b,i] = u(first + b) >= p ? dy[b,i] / (1 - p) : 0, with the state of the forward; dx.out may be dy. (The gradient
// of the residual is dy.)
void drop_path_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step, DropPathDims dims);

}  // namespace vtl::kernels
