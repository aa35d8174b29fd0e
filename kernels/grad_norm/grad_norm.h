// The norm of all gradients, what follows from it for the step (clipping, skipping), and the end of the step. An
// optimizer step is grad_norm, then adamw or sgd, then step_advance, all through one StepState, so that a captured step
// replays.
#pragma once

#include <cstdint>

#include "vtl/core/step_state.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

// state->grad_norm = sqrt(sum of gradient[i]^2), summed in f64 in an order fixed by count; elements that belong to no
// parameter must be zero. state->clip_factor = min(1, max_norm / (grad_norm + 1e-6)), or 1 when max_norm is 0 (no
// clipping). state->skip = a gradient is not finite, or the norm overflows f32.
void grad_norm(Stream& stream, const float* gradient, int64_t count, float max_norm, StepState* state);

// state->step += 1 unless state->skip; state->micro_batch = 0. The other fields stay for whoever reports them.
void step_advance(Stream& stream, StepState* state);

}  // namespace vtl::kernels
