// The fused activation functions and the epilogue on vectors of floats.
#pragma once

#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/epilogue.h"

namespace vtl::kernels::VTL_CPU {

VTL_INLINE vfloat activate(Activation activation, vfloat x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0.0f ? vfloat{} : x;  // NaN stays NaN
    case Activation::relu6: {
      const vfloat floor = x < 0.0f ? vfloat{} : x;
      return floor > 6.0f ? broadcast(6.0f) : floor;
    }
    case Activation::silu:
      return x * vsigmoid(x);
    case Activation::gelu_erf: {
      const vfloat u = x * 0.70710678118654752f;
      return 0.5f * x * (1.0f + verf(u, vexp(-u * u)));
    }
    case Activation::gelu_tanh:
      return x * vsigmoid(1.59576912160573071f * x * (1.0f + 0.044715f * x * x));  // (1 + tanh(z)) / 2 = sigmoid(2 z)
    case Activation::gelu_quick:
      return x * vsigmoid(1.702f * x);
    case Activation::sigmoid:
      return vsigmoid(x);
  }
  return x;
}

// `lanes` sums of channels c ..., to the output elements at `offset`. `lanes` is AllLanes or a count.
template <class T, class Lanes>
VTL_INLINE void write_epilogue(const Epilogue& e, vfloat sum, T* out, int64_t offset, int64_t c, Lanes lanes) {
  if (e.scale) sum *= load_n(e.scale + c, lanes);
  if (e.bias) sum += load_n(e.bias + c, lanes);
  if (e.residual) sum += load_n(static_cast<const T*>(e.residual) + offset, lanes);
  if (e.preactivation) store_n(static_cast<T*>(e.preactivation) + offset, sum, lanes);
  store_n(out + offset, activate(e.activation, sum), lanes);
}

}  // namespace vtl::kernels::VTL_CPU
