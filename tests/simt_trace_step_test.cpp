// What the optimizer's kernels cost a GPU.
#include "vtl/kernels/adamw/adamw.h"
#include "vtl/kernels/grad_norm/grad_norm.h"
#include "vtl/kernels/sgd/sgd.h"
#include "vtl/tests/harness/parameter_arena.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using namespace vtl::test;

// 150 parameters, every other one a vector, as in a transformer; matrices have a working copy.
ParameterArena parameters() {
  std::vector<kernels::ParameterSpan> spans;
  std::vector<bool> with_working;
  int64_t count = 0;
  for (int64_t s = 0; s < 150; ++s) {
    const int64_t size = s % 2 ? 192 : 192 * 192 - 7;
    spans.push_back({count, size, nullptr, 0.05f, 1, 0});
    with_working.push_back(s % 2 == 0);
    count += (size + 63) / 64 * 64;
  }
  return ParameterArena(count, spans, with_working, Device::simt());
}

int64_t elements(const ParameterArena& arena) {
  int64_t count = 0;
  for (const auto& span : arena.host_spans) count += span.count;
  return count;
}

TEST_CASE("trace: adamw and sgd move what they must") {
  Simt simt;
  const ParameterArena a = parameters();
  const Tensor state = bytes_of(std::vector<StepState>(1), Device::simt());
  const int64_t count = elements(a), working = a.working.numel();
  const CostLimits limits{.races = emulator::Races::ignore};
  const auto adamw = [&] {
    kernels::adamw(simt.stream(), a.data(a.master), a.data(a.gradient), a.data(a.m), a.data(a.v), a.view(),
                   state_of(state), {});
  };
  check_cost("adamw", 28 * count + 2 * working, adamw, limits);
  for (const bool momentum : {true, false}) {
    const auto sgd = [&] {
      kernels::sgd(simt.stream(), a.data(a.master), a.data(a.gradient), momentum ? a.data(a.m) : nullptr, a.view(),
                   state_of(state), momentum ? 0.9f : 0);
    };
    // Without a velocity, what each warp reads to find its spans weighs more: a list of 6 KiB, which the cache holds.
    check_cost("sgd", (momentum ? 20 : 12) * count + 2 * working, sgd,
               {.sectors = momentum ? 0.9 : 0.85, .races = emulator::Races::ignore});
  }
}

TEST_CASE("trace: optimizer kernels have no races") {
  Simt simt;
  const ParameterArena a(3000, {{0, 1001, nullptr, 0, 1, 0}, {1024, 1900, nullptr, 0, 1, 0}}, {true, false},
                         Device::simt());
  const Tensor state = bytes_of(std::vector<StepState>(1), Device::simt());
  auto* const writable = static_cast<StepState*>(state.data());
  const emulator::Trace trace;
  kernels::grad_norm(simt.stream(), a.data(a.gradient), a.count, 1, writable);
  kernels::adamw(simt.stream(), a.data(a.master), a.data(a.gradient), a.data(a.m), a.data(a.v), a.view(), writable, {});
  kernels::sgd(simt.stream(), a.data(a.master), a.data(a.gradient), a.data(a.m), a.view(), writable, 0.9f);
  kernels::step_advance(simt.stream(), writable);
  for (const auto& race : trace.races()) FAIL_CHECK(race);
}

TEST_CASE("trace: grad_norm moves what it must") {
  Simt simt;
  const int64_t count = 1 << 21;
  const Tensor gradient = simt.zeros(count), state = bytes_of(std::vector<StepState>(1), Device::simt());
  check_cost(
      "grad_norm", 4 * count,
      [&] { kernels::grad_norm(simt.stream(), gradient.f32(), count, 1, static_cast<StepState*>(state.data())); },
      {.races = emulator::Races::ignore});
}

}  // namespace
