// One optimizer step over the 86.6 million parameters of ViT-B/16 and the 0.3 million of LoRA (r = 8 on q and v).
#include <vector>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/kernels/adamw/adamw.h"
#include "vtl/kernels/grad_norm/grad_norm.h"
#include "vtl/kernels/sgd/sgd.h"

namespace {

using namespace vtl;

constexpr int64_t kVitB = 86567656, kLora = 294912, kSpans = 150;

template <class T>
Tensor on_device(std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return Tensor::from_bytes(bytes, {static_cast<int64_t>(bytes.size())}, DType::u8, bench::device());
}

// Equal spans with a bf16 working copy each.
struct Parameters {
  explicit Parameters(int64_t wanted) : count(wanted / kSpans * kSpans) {
    for (Tensor* each : {&master, &gradient, &m, &v}) *each = bench::zeros({count}, DType::f32);
    working = bench::zeros({count}, DType::bf16);
    const int64_t each = count / kSpans;
    std::vector<kernels::ParameterSpan> host;
    for (int64_t s = 0; s < kSpans; ++s)
      host.push_back({s * each, each, working.data_as<bf16>() + s * each, 0.05f, 1.0f, 0});
    spans = on_device(std::span<const kernels::ParameterSpan>(host));
    StepState start;
    start.learning_rate[0] = 1e-3f;
    step = on_device(std::span<const StepState>(&start, 1));
  }
  kernels::ParameterSpans view() const {
    return {static_cast<const kernels::ParameterSpan*>(spans.data()), kSpans, count};
  }
  StepState* state() const { return static_cast<StepState*>(step.data()); }

  int64_t count;
  Tensor master, gradient, m, v, working, spans, step;
};

void adamw(benchmark::State& state, int64_t count) {
  const Parameters p(count);
  bench::run(state, [&] {
    kernels::adamw(stream(), p.master.f32(), p.gradient.f32(), p.m.f32(), p.v.f32(), p.view(), p.state(), {});
  });
  bench::report_bytes(state, static_cast<double>(p.count) * 30);
}

void sgd(benchmark::State& state) {
  const Parameters p(kVitB);
  bench::run(state, [&] {
    kernels::sgd(stream(), p.master.f32(), p.gradient.f32(), p.m.f32(), p.view(), p.state(), 0.9f);
  });
  bench::report_bytes(state, static_cast<double>(p.count) * 22);
}

void grad_norm(benchmark::State& state) {
  const Parameters p(kVitB);
  bench::run(state, [&] { kernels::grad_norm(stream(), p.gradient.f32(), p.count, 1.0f, p.state()); });
  bench::report_bytes(state, static_cast<double>(p.count) * 4);
}

[[maybe_unused]] const int kRegistered =
    bench::add("adamw/vit_b16", [](benchmark::State& state) { adamw(state, kVitB); }) +
    bench::add("adamw/vit_b16_lora", [](benchmark::State& state) { adamw(state, kLora); }) +
    bench::add("sgd/vit_b16", sgd) + bench::add("grad_norm/vit_b16", grad_norm);

}  // namespace
