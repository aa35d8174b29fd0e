// Dropout (Srivastava et al. 2014). The mask is never stored: backward computes the same random numbers again.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/step_state.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct DropoutDims {
  int64_t count;
  float p;            // probability of dropping, in [0, 1)
  uint32_t layer;     // which dropout of the model: each has numbers of its own
  int64_t first = 0;  // index of element 0 in the whole batch, where several processes share one
};

// y[i] = u(first + i) >= p ? x[i] / (1 - p) : 0, u uniform in [0, 1) and fixed by seed, step and micro_batch of
// `step` (on the stream's device), layer and index: word i % 4 of philox(counter, i / 4, key), with counter =
// random_counter(dropout, layer) and key = the first two words of philox(counter, step << 32 | micro_batch, seed). y
// may be x.
void dropout_forward(Stream& stream, DType dtype, const void* x, void* y, const StepState* step, DropoutDims dims);

// dx[i] = u(first + i) >= p ? dy[i] / (1 - p) : 0, with the state of the forward; dx.out may be dy.
void dropout_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step, DropoutDims dims);

}  // namespace vtl::kernels
