#include "vtl/kernels/adamw/adamw.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/parallel.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::AdamWOptions;
using kernels::ParameterSpan;

std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

// Two spans with a gap between them, in a larger arena.
struct Arena {
  static constexpr int64_t kCount = 150000, kFirst = 33, kSecondOffset = 64, kSecond = 140001;
  std::vector<float> master = floats(random_values("master", kCount)),
                     gradient = floats(random_values("gradient", kCount)), m = std::vector<float>(kCount),
                     v = std::vector<float>(kCount);
  std::vector<bf16> working = std::vector<bf16>(kSecond);
  std::vector<ParameterSpan> spans{{0, kFirst, nullptr, 0.0f, 1.0f, 0},
                                   {kSecondOffset, kSecond, working.data(), 0.05f, 0.5f, 2}};

  kernels::ParameterSpans view() const { return {spans.data(), static_cast<int64_t>(spans.size()), kCount}; }
};

StepState state_with_rates() {
  StepState state;
  state.learning_rate[0] = 1e-3f;
  state.learning_rate[2] = 2e-2f;
  return state;
}

// The same update of one element in f64.
struct Definition {
  double master, m = 0, v = 0;

  void step(double g, double rate, double decay, const AdamWOptions& o, int t) {
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    master *= 1 - rate * decay;
    master -= rate * (m / (1 - std::pow(o.beta1, t))) / (std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.eps);
  }
};

}  // namespace

TEST_CASE("adamw follows its definition over several steps") {
  Arena arena;
  const std::vector<float> before = arena.master;
  StepState state = state_with_rates();
  const AdamWOptions options{0.9, 0.99, 1e-6};
  Stream stream(Device::cpu());
  std::vector<Definition> expected;
  for (const float value : before) expected.push_back({value});
  for (int t = 1; t <= 4; ++t) {
    state.clip_factor = t == 3 ? 0.25f : 1.0f;
    for (int64_t i = 0; i < Arena::kCount; ++i) {
      arena.gradient[i] = std::sin(static_cast<float>(i * t));
      const double g = static_cast<double>(arena.gradient[i]) * state.clip_factor;
      if (i < Arena::kFirst) expected[i].step(g, 1e-3, 0, options, t);
      if (i >= Arena::kSecondOffset && i < Arena::kSecondOffset + Arena::kSecond)
        expected[i].step(g, 1e-2, 0.05, options, t);
    }
    kernels::adamw(stream, arena.master.data(), arena.gradient.data(), arena.m.data(), arena.v.data(), arena.view(),
                   &state, options);
    ++state.step;
  }
  double off = 0;
  for (int64_t i = 0; i < Arena::kCount; ++i) off = std::max(off, std::abs(arena.master[i] - expected[i].master));
  // Four roundings of each step for values up to 1.5.
  CHECK(off <= 4 * 4 * 1.5 * 0x1p-24);
  for (int64_t i = Arena::kFirst; i < Arena::kSecondOffset; ++i) CHECK(arena.master[i] == before[i]);
  CHECK(arena.master[Arena::kCount - 1] == before[Arena::kCount - 1]);
  for (int64_t i = 0; i < Arena::kSecond; ++i)
    if (arena.working[i].bits != bf16(arena.master[Arena::kSecondOffset + i]).bits) FAIL("working copy differs at ", i);
}

TEST_CASE("adamw changes nothing in a step that is skipped") {
  Arena arena;
  const Arena before = arena;
  StepState state = state_with_rates();
  state.skip = 1;
  Stream stream(Device::cpu());
  kernels::adamw(stream, arena.master.data(), arena.gradient.data(), arena.m.data(), arena.v.data(), arena.view(),
                 &state, {});
  CHECK(arena.master == before.master);
  CHECK(arena.m == before.m);
  CHECK(arena.v == before.v);
}

TEST_CASE("adamw gives the same bits for any number of threads, and takes an empty list") {
  const int threads = compute_threads();
  Arena one, three;
  const StepState state = state_with_rates();
  Stream stream(Device::cpu());
  for (Arena* arena : {&one, &three}) {
    set_compute_threads(arena == &one ? 1 : 3);
    kernels::adamw(stream, arena->master.data(), arena->gradient.data(), arena->m.data(), arena->v.data(),
                   arena->view(), &state, {});
  }
  set_compute_threads(threads);
  CHECK(one.master == three.master);
  kernels::adamw(stream, nullptr, nullptr, nullptr, nullptr, {nullptr, 0, 0}, &state, {});
}
