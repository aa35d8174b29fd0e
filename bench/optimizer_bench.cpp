// One optimizer step over the 86.6 million parameters of ViT-B/16 and the 0.3 million of LoRA (r = 8 on q and v).
#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/adamw/adamw.h"
#include "vtl/kernels/grad_norm/grad_norm.h"
#include "vtl/kernels/sgd/sgd.h"

namespace {

using namespace vtl;

constexpr int64_t kVitB = 86567656, kLora = 294912, kSpans = 150;

// Equal spans with a bf16 working copy each.
struct Parameters {
  explicit Parameters(int64_t count) : count(count / kSpans * kSpans) {
    for (Tensor* each : {&master, &gradient, &m, &v}) *each = Tensor::zeros({this->count}, DType::f32, Device::cpu());
    working = Tensor::zeros({this->count}, DType::bf16, Device::cpu());
    const int64_t each = this->count / kSpans;
    for (int64_t s = 0; s < kSpans; ++s)
      spans.push_back({s * each, each, working.data_as<bf16>() + s * each, 0.05f, 1.0f, 0});
    state.learning_rate[0] = 1e-3f;
  }
  kernels::ParameterSpans view() const { return {spans.data(), kSpans, count}; }

  int64_t count;
  Tensor master, gradient, m, v, working;
  std::vector<kernels::ParameterSpan> spans;
  StepState state;
};

void adamw(benchmark::State& state, int64_t count) {
  const Parameters p(count);
  Stream stream(Device::cpu());
  for (auto _ : state)
    kernels::adamw(stream, p.master.f32(), p.gradient.f32(), p.m.f32(), p.v.f32(), p.view(), &p.state, {});
  bench::report_bytes(state, static_cast<double>(p.count) * 30);
}

void sgd(benchmark::State& state, int64_t count) {
  const Parameters p(count);
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::sgd(stream, p.master.f32(), p.gradient.f32(), p.m.f32(), p.view(), &p.state, 0.9f);
  bench::report_bytes(state, static_cast<double>(p.count) * 22);
}

void grad_norm(benchmark::State& state, int64_t count) {
  Parameters p(count);
  Stream stream(Device::cpu());
  for (auto _ : state) kernels::grad_norm(stream, p.gradient.f32(), p.count, 1.0f, &p.state);
  bench::report_bytes(state, static_cast<double>(p.count) * 4);
}

BENCHMARK_CAPTURE(adamw, vit_b16, kVitB)->UseRealTime();
BENCHMARK_CAPTURE(adamw, vit_b16_lora, kLora)->UseRealTime();
BENCHMARK_CAPTURE(sgd, vit_b16, kVitB)->UseRealTime();
BENCHMARK_CAPTURE(grad_norm, vit_b16, kVitB)->UseRealTime();

}  // namespace
