#include "vtl/kernels/adamw/adamw.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "vtl/kernels/cpu/parameter_pieces.h"

namespace vtl::kernels::VTL_CPU {
namespace {

VTL_INLINE vfloat square_root(vfloat x) {
#if defined(__AVX512F__)
  return (vfloat)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif defined(__AVX2__)
  return (vfloat)_mm256_sqrt_ps((__m256)x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}

}  // namespace

void adamw(Stream&, float* master, const float* gradient, float* m, float* v, ParameterSpans parameters,
           const StepState* state, AdamWOptions options) {
  if (state->skip) return;
  const double t = static_cast<double>(state->step + 1);
  const double correction1 = 1.0 - __builtin_pow(options.beta1, t), correction2 = 1.0 - __builtin_pow(options.beta2, t);
  const float inverse_root = static_cast<float>(1.0 / __builtin_sqrt(correction2));
  const float beta1 = static_cast<float>(options.beta1), rest1 = static_cast<float>(1.0 - options.beta1);
  const float beta2 = static_cast<float>(options.beta2), rest2 = static_cast<float>(1.0 - options.beta2);
  const float eps = static_cast<float>(options.eps), clip = state->clip_factor;

  for_parameter_pieces(parameters, [&](const ParameterSpan& span, int64_t begin, int64_t end) {
    const double rate =
        static_cast<double>(state->learning_rate[span.group]) * static_cast<double>(span.learning_rate_factor);
    const float keep = static_cast<float>(1.0 - rate * static_cast<double>(span.weight_decay));
    const float step_size = static_cast<float>(rate / correction1);
    const auto update = [&](int64_t i, auto lanes) {
      const vfloat g = load_n(gradient + i, lanes) * clip;
      const vfloat first = load_n(m + i, lanes) * beta1 + g * rest1;
      const vfloat second = load_n(v + i, lanes) * beta2 + g * g * rest2;
      store_n(m + i, first, lanes);
      store_n(v + i, second, lanes);
      const vfloat denominator = square_root(second) * inverse_root + eps;
      const vfloat value = load_n(master + i, lanes) * keep - step_size * first / denominator;
      store_n(master + i, value, lanes);
      if (span.working) store_n(span.working + (i - span.offset), value, lanes);
    };
    for_lanes(end - begin, [&](int64_t i, auto lanes) { update(begin + i, lanes); });
  });
}

}  // namespace vtl::kernels::VTL_CPU
