#include "vtl/kernels/adamw/adamw.h"
#include "vtl/kernels/device/parameters.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// base^exponent, exponent at least 0, by squaring: as many multiplications in f64 as the exponent has bits, twice.
VTL_DEVICE double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2, base *= base)
    if (exponent % 2) result *= base;
  return result;
}

// 28 bytes move for each element, 30 with a working copy; a thread has 64 of them under way.
struct AdamW {
  float* master;
  const float* gradient;
  float *m, *v;
  double decay1, decay2;
  float beta1, rest1, beta2, rest2, eps;

  struct Step {
    double correction1;
    float inverse_root;  // 1 / sqrt(1 - beta2^t)
    float clip;
  };
  struct Span {
    float inverse_root, clip;
    float keep;       // of the master, after decay
    float step_size;  // with the correction of m in it
  };

  bool aligned() const {
    constexpr int N = kParameterWidth;
    return aligned_to<N>(master) && aligned_to<N>(gradient) && aligned_to<N>(m) && aligned_to<N>(v);
  }

  VTL_DEVICE Step step(const StepState* state) const {
    const int64_t t = load(&state->step) + 1;
    const double correction2 = 1.0 - power(decay2, t);
    return {1.0 - power(decay1, t), static_cast<float>(1.0 / sqrt(correction2)), load(&state->clip_factor)};
  }

  VTL_DEVICE Span span(const Step& step, const StepState* state, const ParameterSpan& span) const {
    const double rate =
        static_cast<double>(load(&state->learning_rate[span.group])) * static_cast<double>(span.learning_rate_factor);
    return {step.inverse_root, step.clip, static_cast<float>(1.0 - rate * static_cast<double>(span.weight_decay)),
            static_cast<float>(rate / step.correction1)};
  }

  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Span& s) const {
    const Floats<N> g = load_floats<N>(gradient + i);
    Floats<N> first = load_floats<N>(m + i), second = load_floats<N>(v + i), value = load_floats<N>(master + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float clipped = g[k] * s.clip;
      first[k] = first[k] * beta1 + clipped * rest1;
      second[k] = second[k] * beta2 + clipped * clipped * rest2;
      value[k] = value[k] * s.keep - s.step_size * first[k] / (sqrtf(second[k]) * s.inverse_root + eps);
    }
    store_floats(m + i, first);
    store_floats(v + i, second);
    store_floats(master + i, value);
    return value;
  }
};

}  // namespace

void adamw(Stream& stream, float* master, const float* gradient, float* m, float* v, ParameterSpans parameters,
           const StepState* state, AdamWOptions options) {
  const AdamW body{master,
                   gradient,
                   m,
                   v,
                   options.beta1,
                   options.beta2,
                   static_cast<float>(options.beta1),
                   static_cast<float>(1.0 - options.beta1),
                   static_cast<float>(options.beta2),
                   static_cast<float>(1.0 - options.beta2),
                   static_cast<float>(options.eps)};
  for_each_parameter(stream, "adamw", body, parameters, state);
}

}  // namespace vtl::kernels::VTL_GPU
