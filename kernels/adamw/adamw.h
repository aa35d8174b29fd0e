// AdamW: Adam with decoupled weight decay (Loshchilov, Hutter 2019), over all parameters in one launch.
#pragma once

#include "vtl/core/step_state.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/parameter_span.h"

namespace vtl::kernels {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

// With t = state->step + 1, g = gradient * state->clip_factor and lr = state->learning_rate[group] *
// learning_rate_factor:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   master = master (1 - lr weight_decay) - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps),
// and the bf16 working copies follow. Does nothing when state->skip is set. Gradients are read only. state->step is not
// advanced (step_advance in kernels/grad_norm does that, last).
void adamw(Stream& stream, float* master, const float* gradient, float* m, float* v, ParameterSpans parameters,
           const StepState* state, AdamWOptions options);

}  // namespace vtl::kernels
