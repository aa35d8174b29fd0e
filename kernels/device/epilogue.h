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

// What goes with channels c ...: 1 and 0 where there is nothing.
template <int N>
struct ChannelTerms {
  Floats<N> scale, bias;
};
template <int N>
VTL_DEVICE ChannelTerms<N> load_channel_terms(const Epilogue& e, int64_t c) {
  ChannelTerms<N> terms;
  VTL_UNROLL
  for (int i = 0; i < N; ++i) terms.scale[i] = 1;
  if (e.scale) terms.scale = load_floats<N>(e.scale + c);
  terms.bias = load_floats_or_zero<N>(e.bias, c);
  return terms;
}

// The value before the activation.
template <int N>
VTL_DEVICE void before_activation(Floats<N>& sum, const ChannelTerms<N>& terms, const Floats<N>& residual) {
  VTL_UNROLL
  for (int i = 0; i < N; ++i) sum[i] = sum[i] * terms.scale[i] + (terms.bias[i] + residual[i]);
}
template <int N>
VTL_DEVICE void before_activation(const Epilogue& e, Floats<N>& sum, const Floats<N>& residual, int64_t c) {
  before_activation(sum, load_channel_terms<N>(e, c), residual);
}

// Not inlined: the same text in every kernel would be half of the program.
template <int N>
__device__ __attribute__((noinline)) Floats<N> activated(Activation kind, Floats<N> values) {
  activate(kind, values);
  return values;
}

// `sum` of the channels that `terms` are of, to the output elements at `offset`.
template <int N, class T>
VTL_DEVICE void write_epilogue(const Epilogue& e, const ChannelTerms<N>& terms, Floats<N> sum, T* out, int64_t offset) {
  before_activation(sum, terms, load_residual<N, T>(e, offset));
  if (e.preactivation) store_floats(static_cast<T*>(e.preactivation) + offset, sum);
  if (e.activation != Activation::none) sum = activated(e.activation, sum);
  store_floats(out + offset, sum);
}

// Host: whether write_epilogue may take N channels at once, as far as alignment goes.
template <int N, class T>
bool aligned_to(const Epilogue& e, const T* out) {
  return aligned_to<N>(e.scale) && aligned_to<N>(e.bias) && aligned_to<N>(static_cast<const T*>(e.residual)) &&
         aligned_to<N>(static_cast<const T*>(e.preactivation)) && aligned_to<N>(out);
}

}  // namespace vtl::kernels::VTL_GPU
