// Data movement: layouts of weights and activations, casts, image normalisation, reductions, resampled position
// embeddings.
#include "vtl/kernels/copy/copy.h"

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/kernels/image/image.h"
#include "vtl/kernels/interpolate/interpolate.h"
#include "vtl/kernels/reduce/reduce.h"

namespace {

using namespace vtl;
using bench::zeros;

// `call` reads `from` and writes `to`.
template <class Call>
void measure(benchmark::State& state, const Tensor& from, const Tensor& to, const Call& call) {
  bench::run(state, call);
  bench::report_bytes(state, static_cast<double>(from.bytes() + to.bytes()));
}

// [512, 512, 3, 3] OIHW -> OHWI
void weight_to_ohwi(benchmark::State& state) {
  const Tensor from = zeros({512, 512, 3, 3}, DType::f32), to = zeros({512, 3, 3, 512}, DType::f32);
  const kernels::CopyDims dims{3, {512, 9, 512}, {512 * 9, 1, 9}, {512 * 9, 512, 1}};
  measure(state, from, to, [&] { kernels::copy_strided(stream(), 4, from.data(), to.data(), dims); });
}

// [batch, 197, 12, 64] -> [batch, 12, 197, 64]
void heads_first(benchmark::State& state, DType dtype) {
  const int64_t batch = bench::images(16);
  const Tensor from = zeros({batch, 197, 12, 64}, dtype), to = zeros({batch, 12, 197, 64}, dtype);
  const kernels::CopyDims dims{4, {batch, 12, 197, 64}, {197 * 768, 64, 768, 1}, {197 * 768, 197 * 64, 64, 1}};
  measure(state, from, to, [&] { kernels::copy_strided(stream(), size_of(dtype), from.data(), to.data(), dims); });
}

void cast_weights(benchmark::State& state) {
  const Tensor from = zeros({3072, 768}, DType::f32), to = zeros({3072, 768}, DType::bf16);
  measure(state, from, to,
          [&] { kernels::cast(stream(), DType::f32, from.data(), DType::bf16, to.data(), from.numel()); });
}

void normalize_images(benchmark::State& state, DType dtype) {
  const int64_t batch = bench::images(16);
  const Tensor image = zeros({batch, 224, 224, 3}, DType::u8), y = zeros(image.shape(), dtype);
  const float mean[] = {0.485f, 0.456f, 0.406f}, std[] = {0.229f, 0.224f, 0.225f};
  measure(state, image, y, [&] {
    kernels::image_normalize(stream(), dtype, image.data_as<uint8_t>(), y.data(), mean, std, {batch * 224 * 224, 3});
  });
}

void mean_of_tokens(benchmark::State& state, DType dtype) {
  const int64_t batch = bench::images(16);
  const Tensor x = zeros({batch, 197, 768}, dtype), y = zeros({batch, 768}, dtype);
  measure(state, x, y, [&] {
    kernels::reduce_forward(stream(), dtype, x.data(), dtype, y.data(), kernels::Reduction::mean, {batch, 197, 768});
  });
}

void resample_positions(benchmark::State& state) {
  const Tensor x = zeros({14, 14, 768}, DType::f32), y = zeros({24, 24, 768}, DType::f32);
  measure(state, x, y, [&] {
    kernels::interpolate_forward(stream(), DType::f32, x.data(), y.data(), kernels::Interpolation::bicubic,
                                 kernels::Antialias::on, {1, 14, 14, 768, 24, 24});
  });
}

[[maybe_unused]] const int kRegistered = bench::add("copy_strided/resnet50_weight_to_ohwi", weight_to_ohwi) +
                                         bench::add_for_floats("copy_strided/vit_b16_heads_first", heads_first) +
                                         bench::add("cast/vit_b16_fc1_weight", cast_weights) +
                                         bench::add_for_floats("image_normalize/224", normalize_images) +
                                         bench::add_for_floats("reduce_forward/vit_b16_tokens", mean_of_tokens) +
                                         bench::add("interpolate_forward/vit_b16_positions", resample_positions);

}  // namespace
