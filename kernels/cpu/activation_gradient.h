// Derivatives of the activation functions on vectors, chosen at compile time. Their values are in activate.h.
#pragma once

#include "vtl/kernels/cpu/activate.h"

namespace vtl::kernels::VTL_CPU {

// Standard normal distribution function, with density = e^(-x^2 / 2) unnormalised.
VTL_INLINE vfloat normal_cdf(vfloat x, vfloat density) { return 0.5f + 0.5f * verf(x * 0.70710678f, density); }

// sigmoid(z) and 1 - sigmoid(z). The latter as a quotient of its own: the difference would keep no digits where z is large.
struct Logistic {
  vfloat value, complement;
};
VTL_INLINE Logistic logistic(vfloat z) {
  const vfloat e = vexp(-z), value = 1.0f / (1.0f + e);
  return {value, e * value};
}

// g * f'(z); relu has derivative 0 at 0, relu6 also at 6.
template <Activation kind>
VTL_INLINE vfloat activate_backward(vfloat g, vfloat z) {
  if constexpr (kind == Activation::relu) return z > 0.0f ? g : vfloat{};
  if constexpr (kind == Activation::relu6) return z > 0.0f ? (z < 6.0f ? g : vfloat{}) : vfloat{};
  if constexpr (kind == Activation::silu) {
    const Logistic l = logistic(z);
    return g * l.value * (1.0f + z * l.complement);
  }
  if constexpr (kind == Activation::gelu_erf) {
    const vfloat density = vexp(-0.5f * z * z);
    return g * (normal_cdf(z, density) + z * density * 0.39894228f);
  }
  if constexpr (kind == Activation::gelu_tanh) {
    const Logistic l = logistic(1.59576912f * z * (1.0f + 0.044715f * z * z));  // (1 + tanh(u)) / 2 = sigmoid(2 u)
    return g * l.value * (1.0f + z * l.complement * 1.59576912f * (1.0f + 0.134145f * z * z));
  }
  if constexpr (kind == Activation::gelu_quick) {
    const Logistic l = logistic(1.702f * z);
    return g * l.value * (1.0f + 1.702f * z * l.complement);
  }
  if constexpr (kind == Activation::sigmoid) {
    const Logistic l = logistic(z);
    return g * l.value * l.complement;
  }
  return g;
}

// The same from y = f(z), for the kinds whose derivative is a function of y: none, relu, relu6, sigmoid.
template <Activation kind>
VTL_INLINE vfloat activate_backward_from_output(vfloat g, vfloat y) {
  if constexpr (kind == Activation::relu || kind == Activation::relu6) return activate_backward<kind>(g, y);
  if constexpr (kind == Activation::sigmoid) return g * y * (1.0f - y);
  return g;
}

// Calls f.template operator()<kind>().
template <class F>
VTL_INLINE void visit_activation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::none:
      return f.template operator()<Activation::none>();
    case Activation::relu:
      return f.template operator()<Activation::relu>();
    case Activation::relu6:
      return f.template operator()<Activation::relu6>();
    case Activation::silu:
      return f.template operator()<Activation::silu>();
    case Activation::gelu_erf:
      return f.template operator()<Activation::gelu_erf>();
    case Activation::gelu_tanh:
      return f.template operator()<Activation::gelu_tanh>();
    case Activation::gelu_quick:
      return f.template operator()<Activation::gelu_quick>();
    case Activation::sigmoid:
      return f.template operator()<Activation::sigmoid>();
  }
}

}  // namespace vtl::kernels::VTL_CPU
