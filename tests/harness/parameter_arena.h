// Parameters as optimizer kernels see them, on any device.
#pragma once

#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/parameter_span.h"

namespace vtl::test {

template <class T>
Tensor bytes_of(const std::vector<T>& values, Device device) {
  const auto bytes = std::as_bytes(std::span(values));
  return Tensor::from_bytes(bytes, {static_cast<int64_t>(bytes.size())}, DType::u8, device);
}

template <class T>
std::vector<T> host_copy(const Tensor& tensor) {
  std::vector<T> values(tensor.bytes() / sizeof(T));
  tensor.copy_to_host(std::as_writable_bytes(std::span(values)));
  return values;
}

inline StepState host_copy(const Tensor& state) { return host_copy<StepState>(state)[0]; }
inline const StepState* state_of(const Tensor& bytes) { return static_cast<const StepState*>(bytes.data()); }

// Flat arenas of `count` elements that begin `shift` elements behind an aligned address; spans with a working copy have
// theirs one after the other.
struct ParameterArena {
  ParameterArena(int64_t count, std::vector<kernels::ParameterSpan> spans, std::vector<bool> with_working,
                 Device device, int64_t shift = 0)
      : count(count), shift(shift), host_spans(std::move(spans)) {
    for (Tensor* each : {&master, &gradient, &m, &v}) *each = Tensor::zeros({count + shift}, DType::f32, device);
    int64_t all = 0;
    for (size_t i = 0; i < host_spans.size(); ++i) all += with_working[i] ? host_spans[i].count : 0;
    working = Tensor::zeros({all}, DType::bf16, device);
    int64_t at = 0;
    for (size_t i = 0; i < host_spans.size(); ++i) {
      if (!with_working[i]) continue;
      host_spans[i].working = working.data_as<bf16>() + at;
      at += host_spans[i].count;
    }
    device_spans = bytes_of(host_spans, device);
  }

  float* data(const Tensor& arena) const { return arena.f32() + shift; }
  void set(const Tensor& arena, const std::vector<float>& values) const {
    arena.slice(0, shift, shift + count).copy_from_host(std::as_bytes(std::span(values)));
  }
  std::vector<float> get(const Tensor& arena) const { return host_copy<float>(arena.slice(0, shift, shift + count)); }
  kernels::ParameterSpans view() const {
    return {static_cast<const kernels::ParameterSpan*>(device_spans.data()), static_cast<int64_t>(host_spans.size()),
            count};
  }

  int64_t count, shift;
  std::vector<kernels::ParameterSpan> host_spans;
  Tensor master, gradient, m, v, working, device_spans;
};

}  // namespace vtl::test
