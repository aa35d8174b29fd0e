// Pooling with the shapes of ResNet-50, batch 16 at 224 pixels.
#include "vtl/kernels/pool2d/pool2d.h"

#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"
#include "vtl/core/tensor.h"

namespace {

using namespace vtl;

Tensor zeros(const Shape& shape, DType dtype) { return Tensor::zeros(shape, dtype, Device::cpu()); }

void resnet50_stem_max(benchmark::State& state, DType dtype) {
  const kernels::Pool2dDims d{16, 112, 112, 64, 56, 56, 3, 3, 2, 2, 1, 1, 1, 1};
  const Tensor x = zeros({16, 112, 112, 64}, dtype), y = zeros({16, 56, 56, 64}, dtype),
               argmax = zeros(y.shape(), DType::u8);
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::max_pool2d_forward(stream, dtype, x.data(), y.data(), argmax.data_as<uint8_t>(), d);
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes() + argmax.bytes()));
}

void resnet50_stem_max_backward(benchmark::State& state, DType dtype) {
  const kernels::Pool2dDims d{16, 112, 112, 64, 56, 56, 3, 3, 2, 2, 1, 1, 1, 1};
  const Tensor dx = zeros({16, 112, 112, 64}, dtype), dy = zeros({16, 56, 56, 64}, dtype),
               argmax = zeros(dy.shape(), DType::u8);
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::max_pool2d_backward(stream, dtype, dy.data(), argmax.data_as<uint8_t>(), {dx.data(), nullptr}, d);
  bench::report_bytes(state, static_cast<double>(dx.bytes() + dy.bytes() + argmax.bytes()));
}

void resnet50_global_average(benchmark::State& state, DType dtype) {
  const Tensor x = zeros({16, 7, 7, 2048}, dtype), y = zeros({16, 2048}, dtype);
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::adaptive_average_pool2d_forward(stream, dtype, x.data(), y.data(), {16, 7, 7, 2048});
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes()));
}

void resnet50_global_average_backward(benchmark::State& state, DType dtype) {
  const Tensor dx = zeros({16, 7, 7, 2048}, dtype), dy = zeros({16, 2048}, dtype);
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::adaptive_average_pool2d_backward(stream, dtype, dy.data(), {dx.data(), nullptr}, {16, 7, 7, 2048});
  bench::report_bytes(state, static_cast<double>(dx.bytes() + dy.bytes()));
}

BENCHMARK_CAPTURE(resnet50_stem_max, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_stem_max, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_stem_max_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_stem_max_backward, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_global_average, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_global_average, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_global_average_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(resnet50_global_average_backward, bf16, DType::bf16)->UseRealTime();

}  // namespace
