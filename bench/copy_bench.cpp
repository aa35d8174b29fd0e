// Data movement: layouts of weights and activations, casts, image normalisation, reductions, resampled position
// embeddings.
#include "vtl/kernels/copy/copy.h"

#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/image/image.h"
#include "vtl/kernels/interpolate/interpolate.h"
#include "vtl/kernels/reduce/reduce.h"

namespace {

using namespace vtl;

Tensor zeros(const Shape& shape, DType dtype) { return Tensor::zeros(shape, dtype, Device::cpu()); }

// [512, 512, 3, 3] OIHW -> OHWI
void resnet50_weight_to_ohwi(benchmark::State& state) {
  const Tensor from = zeros({512, 512, 3, 3}, DType::f32), to = zeros({512, 3, 3, 512}, DType::f32);
  const kernels::CopyDims dims{3, {512, 9, 512}, {512 * 9, 1, 9}, {512 * 9, 512, 1}};
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::copy_strided(stream, 4, from.data(), to.data(), dims);
  bench::report_bytes(state, static_cast<double>(from.bytes() + to.bytes()));
}

// [16, 197, 12, 64] -> [16, 12, 197, 64]
void vit_b16_heads_first(benchmark::State& state, DType dtype) {
  const Tensor from = zeros({16, 197, 12, 64}, dtype), to = zeros({16, 12, 197, 64}, dtype);
  const kernels::CopyDims dims{4, {16, 12, 197, 64}, {197 * 768, 64, 768, 1}, {197 * 768, 197 * 64, 64, 1}};
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::copy_strided(stream, size_of(dtype), from.data(), to.data(), dims);
  bench::report_bytes(state, static_cast<double>(from.bytes() + to.bytes()));
}

void vit_b16_cast_weights(benchmark::State& state) {
  const Tensor from = zeros({3072, 768}, DType::f32), to = zeros({3072, 768}, DType::bf16);
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::cast(stream, DType::f32, from.data(), DType::bf16, to.data(), from.numel());
  bench::report_bytes(state, static_cast<double>(from.bytes() + to.bytes()));
}

void normalize_images(benchmark::State& state, DType dtype) {
  const Tensor image = zeros({16, 224, 224, 3}, DType::u8), y = zeros(image.shape(), dtype);
  const float mean[] = {0.485f, 0.456f, 0.406f}, std[] = {0.229f, 0.224f, 0.225f};
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::image_normalize(stream, dtype, image.data_as<uint8_t>(), y.data(), mean, std, {16 * 224 * 224, 3});
  bench::report_bytes(state, static_cast<double>(image.bytes() + y.bytes()));
}

void vit_b16_mean_of_tokens(benchmark::State& state, DType dtype) {
  const Tensor x = zeros({16, 197, 768}, dtype), y = zeros({16, 768}, dtype);
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::reduce_forward(stream, dtype, x.data(), dtype, y.data(), kernels::Reduction::mean, {16, 197, 768});
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes()));
}

void vit_b16_resample_positions(benchmark::State& state) {
  const Tensor x = zeros({14, 14, 768}, DType::f32), y = zeros({24, 24, 768}, DType::f32);
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::interpolate_forward(stream, DType::f32, x.data(), y.data(), kernels::Interpolation::bicubic,
                                 kernels::Antialias::on, {1, 14, 14, 768, 24, 24});
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes()));
}

BENCHMARK(resnet50_weight_to_ohwi)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_heads_first, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_heads_first, bf16, DType::bf16)->UseRealTime();
BENCHMARK(vit_b16_cast_weights)->UseRealTime();
BENCHMARK_CAPTURE(normalize_images, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(normalize_images, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_mean_of_tokens, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_mean_of_tokens, bf16, DType::bf16)->UseRealTime();
BENCHMARK(vit_b16_resample_positions)->UseRealTime();

}  // namespace
