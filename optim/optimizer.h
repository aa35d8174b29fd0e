// AdamW and SGD over flat arenas: one launch updates every parameter.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vtl/core/named_tensors.h"
#include "vtl/core/step_state.h"
#include "vtl/kernels/adamw/adamw.h"
#include "vtl/kernels/parameter_span.h"
#include "vtl/optim/groups.h"

namespace vtl::optim {

enum class OptimizerKind { adamw, sgd };
// "adamw", "sgd"
const char* name(OptimizerKind kind);

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  kernels::AdamWOptions adamw;
  float momentum = 0.9f;   // sgd; 0: plain gradient descent
  float clip_norm = 1.0f;  // of all gradients together; 0: no clipping
};

// Takes the learning parameters of a model over: masters, gradients and moments become views of flat arenas, and
// gradients gather there by themselves. Freezing or unfreezing a parameter needs a new optimizer. The parameters must
// outlive it.
class Optimizer {
 public:
  // Every member learns already (Parameter::make_learn). Moments start at zero. Throws bad_argument when there is
  // nothing to learn, a parameter is in two places or frozen, or there are more than kMaxParameterGroups groups.
  Optimizer(const OptimizerOptions& options, std::vector<Group> groups, Device device, uint64_t seed);

  const std::vector<Group>& groups() const { return groups_; }

  // Forgets all gradients: the next backward overwrites them. Without it gradients add up (accumulation).
  void zero_grad();
  // One update with the peak rate of every group times `rate_factor`: norm, clipping, update. A gradient that is not
  // finite leaves everything as it is and does not count as a step.
  void step(double rate_factor);

  // In device memory: what layers (dropout) and kernels read.
  const StepState* state() const { return device_state(); }
  // After the last step: its norm, clip factor and whether it was skipped. Waits.
  StepState read_state() const;
  // Tells the random streams of the micro-batches of a step apart.
  void set_micro_batch(int64_t index);

  // Moments by parameter name ("NAME.m", "NAME.v" or "NAME.velocity") and "step" (i64): for checkpoints. Copies.
  NamedTensors state_tensors() const;
  // Strict: every tensor of state_tensors, in its shape, and no other; bad_model lists what does not fit.
  void load_state(const NamedTensors& tensors);

  // Elements of an arena, and the bytes of all of them.
  int64_t arena_count() const { return arena_count_; }
  size_t arena_bytes() const;

 private:
  StepState* device_state() const { return static_cast<StepState*>(state_.data()); }
  Tensor arena_view(const Tensor& arena, size_t span, const Shape& shape) const;
  void write_state(const StepState& state);
  std::vector<std::pair<const char*, Tensor>> moments() const;

  OptimizerOptions options_;
  std::vector<Group> groups_;
  std::vector<Member> members_;  // in the order of the arenas
  std::vector<kernels::ParameterSpan> host_spans_;
  int64_t arena_count_ = 0;
  Tensor master_, gradient_, first_moment_, second_moment_;  // f32 [arena_count]; moments as the kind needs them
  Tensor spans_, state_;                                     // bytes on the device
};

}  // namespace vtl::optim
