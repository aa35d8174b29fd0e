// Derivatives of the activation functions on vectors, chosen at compile time. Their values are in activate.h.
#pragma once

#include "vtl/kernels/cpu/activate.h"

namespace vtl::kernels::VTL_CPU {

// Standard normal distribution function, with density = e^(-x^2 / 2) unnormalised.
VTL_INLINE vfloat normal_cdf(vfloat x, vfloat density) { return 0.5f + 0.5f * verf(x * 0.70710678f, density); }

// g * f'(z); relu has derivative 0 at 0, relu6 also at 6.
template <Activation kind>
VTL_INLINE vfloat activate_backward(vfloat g, vfloat z) {
  if constexpr (kind == Activation::relu) return z > 0.0f ? g : vfloat{};
  if constexpr (kind == Activation::relu6) return z > 0.0f ? (z < 6.0f ? g : vfloat{}) : vfloat{};
  if constexpr (kind == Activation::silu) {
    const vfloat s = vsigmoid(z);
    return g * (s + z * s * (1.0f - s));
  }
  if constexpr (kind == Activation::gelu_erf) {
    const vfloat density = vexp(-0.5f * z * z);
    return g * (normal_cdf(z, density) + z * density * 0.39894228f);
  }
  if constexpr (kind == Activation::gelu_tanh) {
    const vfloat t = vtanh(0.79788456f * (z + 0.044715f * z * z * z));
    return g * (0.5f * (1.0f + t) + 0.5f * z * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * z * z));
  }
  if constexpr (kind == Activation::gelu_quick) {
    const vfloat s = vsigmoid(1.702f * z);
    return g * (s + 1.702f * z * s * (1.0f - s));
  }
  if constexpr (kind == Activation::sigmoid) {
    const vfloat s = vsigmoid(z);
    return g * s * (1.0f - s);
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
