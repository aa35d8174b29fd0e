// Everything that changes from step to step, in one struct in device memory. Kernels read it by pointer and never take its
// fields by value, so that a captured step replays.
#pragma once

#include <cstdint>

namespace vtl {

inline constexpr int kMaxParameterGroups = 64;

struct StepState {
  uint64_t seed = 0;
  int64_t step = 0;         // optimizer steps done before this one
  int64_t micro_batch = 0;  // within the step
  float learning_rate[kMaxParameterGroups] = {};
  float grad_norm = 0;      // of all gradients, after accumulation, before clipping
  float clip_factor = 1;    // gradients are multiplied by it
  int32_t skip = 0;         // not zero: the optimizer changes nothing (a gradient was not finite)
};

}  // namespace vtl
