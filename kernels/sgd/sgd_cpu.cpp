#include "vtl/kernels/sgd/sgd.h"

#include "vtl/kernels/cpu/parameter_pieces.h"

namespace vtl::kernels::VTL_CPU {

void sgd(Stream&, float* master, const float* gradient, float* velocity, ParameterSpans parameters,
         const StepState* state, float momentum) {
  if (state->skip) return;
  const float clip = state->clip_factor;
  for_parameter_pieces(parameters, [&](const ParameterSpan& span, int64_t begin, int64_t end) {
    const float rate = state->learning_rate[span.group] * span.learning_rate_factor, decay = span.weight_decay;
    for_lanes(end - begin, [&](int64_t offset, auto lanes) {
      const int64_t i = begin + offset;
      vfloat value = load_n(master + i, lanes);
      vfloat step = load_n(gradient + i, lanes) * clip + value * decay;
      if (velocity) {
        step += load_n(velocity + i, lanes) * momentum;
        store_n(velocity + i, step, lanes);
      }
      value -= step * rate;
      store_n(master + i, value, lanes);
      if (span.working) store_n(span.working + (i - span.offset), value, lanes);
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
