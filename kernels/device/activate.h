// The activation functions of activation_kind.h and their derivatives, for several values at once: the kind is the same
// for all threads, and one branch serves them all. Within 2e-7 * (1 + |x|) of the definitions.
#pragma once

#include "vtl/kernels/activation_kind.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/math.h"

namespace vtl::kernels::VTL_GPU {

// sigmoid(z) and 1 - sigmoid(z). The latter as a quotient of its own: the difference would keep no digits where z is
// large.
struct Logistic {
  float value, complement;
};
VTL_DEVICE float sigmoid(float z) { return reciprocal(1.0f + fast_exp(-z)); }
VTL_DEVICE Logistic logistic(float z) {
  const float e = fast_exp(z < -87.0f ? 87.0f : -z), value = reciprocal(1.0f + e);  // e is finite
  return {value, e * value};
}

// (1 + erf(x / sqrt(2))) / 2 within 3e-7 (Abramowitz and Stegun, 7.1.26), with density = e^(-x^2 / 2).
VTL_DEVICE float normal_cdf(float x, float density) {
  const float t = reciprocal(1.0f + 0.231641888f * fabsf(x));  // 0.3275911 / sqrt(2)
  float p = 0.5307027145f;
  p = p * t - 0.7265760135f;
  p = p * t + 0.7107068705f;
  p = p * t - 0.142248368f;
  p = p * t + 0.127414796f;
  const float tail = p * t * density;  // beyond |x|
  return x < 0.0f ? tail : 1.0f - tail;
}
VTL_DEVICE float normal_density(float x) { return fast_exp2(-0.72134752f * x * x); }  // unnormalised

// sqrt(8 / pi) (x + 0.044715 x^3): (1 + tanh(z)) / 2 is sigmoid(2 z).
VTL_DEVICE float gelu_tanh_argument(float x) { return 1.59576912f * x * (1.0f + 0.044715f * x * x); }

// x[k] = f(x[k]).
template <int N>
VTL_DEVICE void activate(Activation kind, Floats<N>& x) {
  const auto each = [&](auto f) {
    VTL_UNROLL
    for (int k = 0; k < N; ++k) x[k] = f(x[k]);
  };
  switch (kind) {
    case Activation::none:
      return;
    case Activation::relu:
      return each([](float v) { return v < 0.0f ? 0.0f : v; });  // NaN stays NaN
    case Activation::relu6:
      return each([](float v) { return v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v; });
    case Activation::silu:
      return each([](float v) { return v * sigmoid(v); });
    case Activation::gelu_erf:
      return each([](float v) { return v * normal_cdf(v, normal_density(v)); });
    case Activation::gelu_tanh:
      return each([](float v) { return v * sigmoid(gelu_tanh_argument(v)); });
    case Activation::gelu_quick:
      return each([](float v) { return v * sigmoid(1.702f * v); });
    case Activation::sigmoid:
      return each([](float v) { return sigmoid(v); });
  }
}

VTL_DEVICE float activate(Activation kind, float x) {
  Floats<1> value{{x}};
  activate(kind, value);
  return value[0];
}

// g[k] = g[k] * f'(z[k]); relu has derivative 0 at 0, relu6 also at 6.
template <int N>
VTL_DEVICE void activate_backward(Activation kind, Floats<N>& g, const Floats<N>& z) {
  const auto each = [&](auto f) {
    VTL_UNROLL
    for (int k = 0; k < N; ++k) g[k] = f(g[k], z[k]);
  };
  switch (kind) {
    case Activation::none:
      return;
    case Activation::relu:
      return each([](float d, float v) { return v > 0.0f ? d : 0.0f; });
    case Activation::relu6:
      return each([](float d, float v) { return v > 0.0f && v < 6.0f ? d : 0.0f; });
    case Activation::silu:
      return each([](float d, float v) {
        const Logistic l = logistic(v);
        return d * l.value * (1.0f + v * l.complement);
      });
    case Activation::gelu_erf:
      return each([](float d, float v) {
        const float density = normal_density(v);
        return d * (normal_cdf(v, density) + v * density * 0.39894228f);
      });
    case Activation::gelu_tanh:
      return each([](float d, float v) {
        const Logistic l = logistic(gelu_tanh_argument(v));
        return d * l.value * (1.0f + v * l.complement * 1.59576912f * (1.0f + 0.134145f * v * v));
      });
    case Activation::gelu_quick:
      return each([](float d, float v) {
        const Logistic l = logistic(1.702f * v);
        return d * l.value * (1.0f + 1.702f * v * l.complement);
      });
    case Activation::sigmoid:
      return each([](float d, float v) {
        const Logistic l = logistic(v);
        return d * l.value * l.complement;
      });
  }
}

// The same from y = f(z), for the kinds whose derivative is a function of y: none, relu, relu6, sigmoid.
template <int N>
VTL_DEVICE void activate_backward_from_output(Activation kind, Floats<N>& g, const Floats<N>& y) {
  if (kind != Activation::sigmoid) return activate_backward(kind, g, y);
  VTL_UNROLL
  for (int k = 0; k < N; ++k) g[k] *= y[k] * (1.0f - y[k]);
}

}  // namespace vtl::kernels::VTL_GPU
