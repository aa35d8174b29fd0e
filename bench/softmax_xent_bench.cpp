// Cross entropy over the classes of ImageNet, batch 256.
#include "vtl/kernels/softmax_xent/softmax_xent.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/context.h"

namespace {

using namespace vtl;

constexpr kernels::SoftmaxXentDims kDims{256, 1000};

struct Data {
  explicit Data(DType dtype) : logits(bench::values({kDims.rows, kDims.classes}, dtype)) {}
  kernels::XentTarget target() const { return {labels.data(), nullptr, nullptr, 0.1f}; }
  const std::vector<int64_t> labels = std::vector<int64_t>(kDims.rows, 7);
  Tensor logits;
  Tensor loss = Tensor::zeros({1}, DType::f32, Device::cpu()), lse = Tensor::zeros({kDims.rows}, DType::f32, Device::cpu());
};

void imagenet_softmax_xent_forward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  for (auto _ : state)
    kernels::softmax_xent_forward(stream(), dtype, d.logits.data(), d.target(), nullptr, d.loss.f32(), d.lse.f32(), kDims);
  bench::report_bytes(state, static_cast<double>(d.logits.bytes()));
}

void imagenet_softmax_xent_backward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  const Tensor dlogits = bench::values(d.logits.shape(), dtype), dloss = bench::values({1}, DType::f32);
  for (auto _ : state)
    kernels::softmax_xent_backward(stream(), dtype, d.logits.data(), d.target(), d.lse.f32(), nullptr, dloss.f32(),
                                   {dlogits.data()}, kDims);
  bench::report_bytes(state, 2.0 * static_cast<double>(d.logits.bytes()));
}

BENCHMARK_CAPTURE(imagenet_softmax_xent_forward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(imagenet_softmax_xent_forward, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(imagenet_softmax_xent_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(imagenet_softmax_xent_backward, bf16, DType::bf16)->UseRealTime();

}  // namespace
