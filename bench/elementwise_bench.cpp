// Memory-bound operations at the shapes of ViT-B/16 and EfficientNet-B0: the bytes that must move.
#include <benchmark/benchmark.h>

#include <string>
#include <utility>

#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/step_state.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/drop_path/drop_path.h"
#include "vtl/kernels/dropout/dropout.h"
#include "vtl/kernels/scale/scale.h"

namespace {

using namespace vtl;
using bench::values;
using kernels::Activation;

constexpr int64_t kBatch = 8, kTokens = 197, kDim = 768, kHidden = 3072;

// `call` moves `passes` times the bytes of a tensor of `shape`.
template <class Call>
void add_bench(const std::string& name, const Shape& shape, int passes, Call call) {
  for (const DType dtype : {DType::f32, DType::bf16})
    benchmark::RegisterBenchmark(
        (name + "/" + vtl::name(dtype)).c_str(),
        [=](benchmark::State& state) {
          const Tensor x = values(shape, dtype), y = values(shape, dtype), z = values(shape, dtype);
          for (auto _ : state) call(dtype, x, y, z);
          bench::report_bytes(state, static_cast<double>(x.bytes()) * passes);
        })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}

const int kRegistered = [] {
  static const Tensor columns = values({kHidden}, DType::f32), sums = values({kHidden}, DType::f32);
  static const StepState step;
  const Shape tokens{kBatch, kTokens, kDim}, hidden{kBatch, kTokens, kHidden};
  const int64_t rows = kBatch * kTokens;
  for (const auto& [kind, name] : {std::pair{Activation::relu, "relu"},
                                   {Activation::gelu_erf, "gelu_erf"},
                                   {Activation::gelu_tanh, "gelu_tanh"},
                                   {Activation::silu, "silu"}}) {
    add_bench(concat("activation_forward/vit_b16_mlp_", name), hidden, 2,
              [=, kind = kind](DType t, auto& x, auto& y, auto&) {
                kernels::activation_forward(stream(), t, kind, x.data(), nullptr, y.data(), {rows, kHidden});
              });
    add_bench(concat("activation_backward/vit_b16_mlp_", name), hidden, 3,
              [=, kind = kind](DType t, auto& x, auto& y, auto& z) {
                kernels::activation_backward(stream(), t, kind, x.data(), y.data(), nullptr, nullptr, {z.data()}, {},
                                             {rows, kHidden});
              });
  }
  add_bench("activation_backward/vit_b16_mlp_gelu_erf_with_bias", hidden, 3, [=](DType t, auto& x, auto& y, auto& z) {
    kernels::activation_backward(stream(), t, Activation::gelu_erf, x.data(), y.data(), columns.f32(), nullptr,
                                 {z.data()}, {sums.f32()}, {rows, kHidden});
  });
  add_bench("add/vit_b16", tokens, 3, [=](DType t, auto& x, auto& y, auto& z) {
    kernels::add_forward(stream(), t, x.data(), t, y.data(), z.data(), {1, x.numel()});
  });
  add_bench("column_sum/vit_b16", hidden, 1, [=](DType t, auto& x, auto&, auto&) {
    kernels::column_sum(stream(), t, x.data(), {sums.f32()}, {rows, kHidden});
  });
  add_bench("layer_scale_forward/vit_b16", tokens, 3, [=](DType t, auto& x, auto& y, auto& z) {
    kernels::layer_scale_forward(stream(), t, x.data(), columns.f32(), y.data(), z.data(), {rows, kDim});
  });
  add_bench("layer_scale_backward/vit_b16", tokens, 3, [=](DType t, auto& x, auto& y, auto& z) {
    kernels::layer_scale_backward(stream(), t, x.data(), y.data(), columns.f32(), {z.data()}, {sums.f32()},
                                  {rows, kDim});
  });
  add_bench("dropout_forward/vit_b16", tokens, 2, [=](DType t, auto& x, auto& y, auto&) {
    kernels::dropout_forward(stream(), t, x.data(), y.data(), &step, {x.numel(), 0.1f, 0});
  });
  add_bench("drop_path_forward/vit_b16", tokens, 3, [=](DType t, auto& x, auto& y, auto& z) {
    kernels::drop_path_forward(stream(), t, x.data(), y.data(), z.data(), &step, {kBatch, kTokens * kDim, 0.1f, 0});
  });
  for (const auto& [side, channels] : {std::pair<int64_t, int64_t>{112, 32}, {28, 144}, {14, 672}, {56, 24}}) {
    const kernels::GateDims dims{kBatch, side * side, channels};
    add_bench(concat("gate_forward/", side, "x", channels), {kBatch, side, side, channels}, 2,
              [=](DType t, auto& x, auto& y, auto& z) {
                kernels::gate_forward(stream(), t, x.data(), z.data(), y.data(), dims);
              });
    add_bench(
        concat("gate_backward/", side, "x", channels), {kBatch, side, side, channels}, 3,
        [=](DType t, auto& x, auto& y, auto& z) {
          static const Tensor gates = values({kBatch, 1024}, DType::f32), dgates = values({kBatch, 1024}, DType::f32);
          kernels::gate_backward(stream(), t, x.data(), y.data(), gates.data(), {z.data()}, {dgates.data()}, dims);
        });
  }
  return 0;
}();

}  // namespace
