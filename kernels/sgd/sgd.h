// Stochastic gradient descent with momentum and coupled weight decay, over all parameters in one launch.
#pragma once

#include "vtl/core/step_state.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/parameter_span.h"

namespace vtl::kernels {

// With d = gradient * state->clip_factor + weight_decay * master and lr as in adamw:
//   velocity = momentum * velocity + d,  master = master - lr * velocity,
// and the bf16 working copies follow. velocity starts as zeros; null with momentum 0: then d takes its place. Does
// nothing when state->skip is set.
void sgd(Stream& stream, float* master, const float* gradient, float* velocity, ParameterSpans parameters,
         const StepState* state, float momentum);

}  // namespace vtl::kernels
