#include "vtl/kernels/cpu/columns.h"
#include "vtl/kernels/scale/scale.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

template <class T>
void scale(const T* x, float alpha, const T* addend, T* y, int64_t count) {
  parallel_lanes(count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
    vfloat value = load_n(x + i, lanes) * alpha;
    if (addend) value += load_n(addend + i, lanes);
    store_n(y + i, value, lanes);
  });
}

template <class T>
void layer_scale(Stream& stream, const T* x, const float* gamma, const T* addend, T* y, LayerScaleDims d) {
  rows_with_column_sum(stream, d.rows, d.cols, Dest{}, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
    const int64_t at = r * d.cols + c;
    vfloat value = load_n(x + at, lanes) * load_n(gamma + c, lanes);
    if (addend) value += load_n(addend + at, lanes);
    store_n(y + at, value, lanes);
    return value;
  });
}

template <class T>
void layer_scale_gradients(Stream& stream, const T* dy, const T* x, const float* gamma, Dest dx, Dest dgamma,
                           LayerScaleDims d) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  rows_with_column_sum(stream, d.rows, d.cols, dgamma, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
    const int64_t at = r * d.cols + c;
    const vfloat upstream = load_n(dy + at, lanes);
    const vfloat product = x ? upstream * load_n(x + at, lanes) : upstream;
    if (out) {
      vfloat value = upstream * load_n(gamma + c, lanes);
      if (addend) value += load_n(addend + at, lanes);
      store_n(out + at, value, lanes);
    }
    return product;
  });
}

template <class T>
void gate(Stream& stream, const T* x, const T* gates, const T* addend, T* y, GateDims d) {
  rows_with_column_sum(stream, d.batch * d.positions, d.channels, Dest{},
                       [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
                         const int64_t at = r * d.channels + c;
                         vfloat value = load_n(x + at, lanes) * load_n(gates + r / d.positions * d.channels + c, lanes);
                         if (addend) value += load_n(addend + at, lanes);
                         store_n(y + at, value, lanes);
                         return value;
                       });
}

// One task sums one piece of the channels of one sample, in pieces so that a small batch still keeps threads busy.
template <class T>
void gate_gradients(const T* dy, const T* x, const T* gates, Dest dx, Dest dgate, GateDims d) {
  constexpr int64_t kPiece = 512;
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  auto* gate_out = static_cast<T*>(dgate.out);
  const auto* gate_addend = static_cast<const T*>(dgate.addend);
  const int64_t pieces = (d.channels + kPiece - 1) / kPiece;
  parallel_chunks(d.batch * pieces, [&](int64_t task) {
    const int64_t b = task / pieces, begin = task % pieces * kPiece;
    const int64_t count = d.channels - begin < kPiece ? d.channels - begin : kPiece;
    const int64_t gate_at = b * d.channels + begin, first = b * d.positions * d.channels + begin;
    float sums[kPiece];
    sum_repeats(d.positions, count, sums, [&](int64_t p, int64_t c, auto lanes) VTL_INLINE_BODY {
      const int64_t at = first + p * d.channels + c;
      const vfloat upstream = load_n(dy + at, lanes);
      const vfloat product = upstream * load_n(x + at, lanes);
      if (out) {
        vfloat value = upstream * load_n(gates + gate_at + c, lanes);
        if (addend) value += load_n(addend + at, lanes);
        store_n(out + at, value, lanes);
      }
      return product;
    });
    for_lanes(count, [&](int64_t c, auto lanes) VTL_INLINE_BODY {
      vfloat value = load_n(sums + c, lanes);
      if (gate_addend) value += load_n(gate_addend + gate_at + c, lanes);
      store_n(gate_out + gate_at + c, value, lanes);
    });
  });
}

}  // namespace

void scale_forward(Stream&, DType dtype, const void* x, float alpha, void* y, int64_t count) {
  visit_float(dtype, [&]<class T>() { scale<T>(static_cast<const T*>(x), alpha, nullptr, static_cast<T*>(y), count); });
}

void scale_backward(Stream&, DType dtype, const void* dy, float alpha, Dest dx, int64_t count) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    scale(static_cast<const T*>(dy), alpha, static_cast<const T*>(dx.addend), static_cast<T*>(dx.out), count);
  });
}

void layer_scale_forward(Stream& stream, DType dtype, const void* x, const float* gamma, const void* residual, void* y,
                         LayerScaleDims dims) {
  visit_float(dtype, [&]<class T>() {
    layer_scale(stream, static_cast<const T*>(x), gamma, static_cast<const T*>(residual), static_cast<T*>(y), dims);
  });
}

void layer_scale_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* gamma, Dest dx,
                          Dest dgamma, LayerScaleDims dims) {
  if (!dx.wanted() && !dgamma.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const auto* input = dgamma.wanted() ? static_cast<const T*>(x) : nullptr;
    layer_scale_gradients(stream, static_cast<const T*>(dy), input, gamma, dx, dgamma, dims);
  });
}

void gate_forward(Stream& stream, DType dtype, const void* x, const void* gate_values, void* y, GateDims dims) {
  visit_float(dtype, [&]<class T>() {
    gate<T>(stream, static_cast<const T*>(x), static_cast<const T*>(gate_values), nullptr, static_cast<T*>(y), dims);
  });
}

void gate_backward(Stream& stream, DType dtype, const void* dy, const void* x, const void* gate_values, Dest dx,
                   Dest dgate, GateDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto *upstream = static_cast<const T*>(dy), *gates = static_cast<const T*>(gate_values);
    if (dgate.wanted())
      gate_gradients(upstream, static_cast<const T*>(x), gates, dx, dgate, dims);
    else if (dx.wanted())
      gate(stream, upstream, gates, static_cast<const T*>(dx.addend), static_cast<T*>(dx.out), dims);
  });
}

}  // namespace vtl::kernels::VTL_CPU
