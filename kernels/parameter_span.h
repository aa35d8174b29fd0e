// How optimizer kernels see the parameters: spans of flat f32 arenas (masters, gradients, moments share one numbering).
#pragma once

#include <cstdint>

#include "vtl/core/dtype.h"

namespace vtl::kernels {

// The elements offset .. offset + count - 1 of every arena.
struct ParameterSpan {
  int64_t offset = 0;
  int64_t count = 0;
  bf16* working = nullptr;  // count elements, rewritten with each update of the master; null: none
  float weight_decay = 0;
  float learning_rate_factor = 1;  // times StepState::learning_rate[group]
  int32_t group = 0;
};

// On the stream's device, ascending by offset, not overlapping. Elements between spans are left alone.
struct ParameterSpans {
  const ParameterSpan* spans;
  int64_t count;
  int64_t arena_count;  // elements of an arena
};

}  // namespace vtl::kernels
