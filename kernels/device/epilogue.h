// What matrix products and convolutions do to their sums before they write them, on N neighbouring channels.
#pragma once

#include "vtl/kernels/device/activate.h"
#include "vtl/kernels/epilogue.h"

namespace vtl::kernels::VTL_GPU {

// The residual of the output elements at `offset`; zeros where there is none.
template <int N, class T>
VTL_DEVICE Floats<N> load_residual(const Epilogue& e, int64_t offset) {
  return load_floats_or_zero<N>(static_cast<const T*>(e.residual), offset);
}

// The value before the activation, of channels c ...
template <int N>
VTL_DEVICE void before_activation(const Epilogue& e, Floats<N>& sum, const Floats<N>& residual, int64_t c) {
  if (e.scale) {
    const Floats<N> scale = load_floats<N>(e.scale + c);
    VTL_UNROLL
    for (int i = 0; i < N; ++i) sum[i] *= scale[i];
  }
  const Floats<N> bias = load_floats_or_zero<N>(e.bias, c);
  VTL_UNROLL
  for (int i = 0; i < N; ++i) sum[i] += bias[i] + residual[i];
}

// `sum` of channels c ..., to the output elements at `offset`.
template <int N, class T>
VTL_DEVICE void write_epilogue(const Epilogue& e, Floats<N> sum, T* out, int64_t offset, int64_t c) {
  before_activation(e, sum, load_residual<N, T>(e, offset), c);
  if (e.preactivation) store_floats(static_cast<T*>(e.preactivation) + offset, sum);
  activate(e.activation, sum);
  store_floats(out + offset, sum);
}

// Host: whether write_epilogue may take N channels at once, as far as alignment goes.
template <int N, class T>
bool aligned_to(const Epilogue& e, const T* out) {
  return aligned_to<N>(e.scale) && aligned_to<N>(e.bias) && aligned_to<N>(static_cast<const T*>(e.residual)) &&
         aligned_to<N>(static_cast<const T*>(e.preactivation)) && aligned_to<N>(out);
}

}  // namespace vtl::kernels::VTL_GPU
