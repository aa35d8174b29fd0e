#include "vtl/kernels/device/parameters.h"
#include "vtl/kernels/sgd/sgd.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// 20 bytes move for each element, 12 without velocity; 2 more with a working copy.
struct Sgd {
  float* master;
  const float* gradient;
  float* velocity;
  float momentum;

  struct Step {
    float clip;
  };
  struct Span {
    float clip, decay, rate;
  };

  bool aligned() const {
    constexpr int N = kParameterWidth;
    return aligned_to<N>(master) && aligned_to<N>(gradient) && aligned_to<N>(velocity);
  }

  VTL_DEVICE Step step(const StepState* state) const { return {load(&state->clip_factor)}; }

  VTL_DEVICE Span span(const Step& step, const StepState* state, const ParameterSpan& span) const {
    return {step.clip, span.weight_decay, load(&state->learning_rate[span.group]) * span.learning_rate_factor};
  }

  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Span& s) const {
    const Floats<N> g = load_floats<N>(gradient + i);
    const Floats<N> before = load_floats_or_zero<N>(velocity, i);
    Floats<N> value = load_floats<N>(master + i), change;
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      change[k] = g[k] * s.clip + value[k] * s.decay + before[k] * momentum;
      value[k] -= change[k] * s.rate;
    }
    if (velocity) store_floats(velocity + i, change);
    store_floats(master + i, value);
    return value;
  }
};

}  // namespace

void sgd(Stream& stream, float* master, const float* gradient, float* velocity, ParameterSpans parameters,
         const StepState* state, float momentum) {
  for_each_parameter(stream, "sgd", Sgd{master, gradient, velocity, momentum}, parameters, state);
}

}  // namespace vtl::kernels::VTL_GPU
