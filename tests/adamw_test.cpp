#include "vtl/kernels/adamw/adamw.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/parallel.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"
#include "vtl/tests/harness/parameter_arena.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::AdamWOptions;
using kernels::ParameterSpan;

std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

constexpr int64_t kCount = 150000, kFirst = 33, kSecondOffset = 64, kSecond = 140001;

// Two spans with a gap between them, in a larger arena.
ParameterArena two_spans(Device device, int64_t shift = 0) {
  ParameterArena arena(kCount, {{0, kFirst, nullptr, 0.0f, 1.0f, 0}, {kSecondOffset, kSecond, nullptr, 0.05f, 0.5f, 2}},
                       {false, true}, device, shift);
  arena.set(arena.master, floats(random_values("master", kCount)));
  arena.set(arena.gradient, floats(random_values("gradient", kCount)));
  return arena;
}

StepState state_with_rates() {
  StepState state;
  state.learning_rate[0] = 1e-3f;
  state.learning_rate[2] = 2e-2f;
  return state;
}

void update(const ParameterArena& a, const StepState& state, Device device, const AdamWOptions& options = {}) {
  const Tensor on_device = bytes_of(std::vector{state}, device);
  kernels::adamw(stream(), a.data(a.master), a.data(a.gradient), a.data(a.m), a.data(a.v), a.view(),
                 state_of(on_device), options);
}

// The same update of one element in f64.
struct Definition {
  double master, m = 0, v = 0;

  void step(double g, double rate, double decay, const AdamWOptions& o, int64_t t) {
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    master *= 1 - rate * decay;
    master -= rate * (m / (1 - std::pow(o.beta1, t))) / (std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.eps);
  }
};

void check_definition(Device device, int64_t shift, int64_t first_step) {
  const ParameterArena arena = two_spans(device, shift);
  const std::vector<float> before = arena.get(arena.master);
  StepState state = state_with_rates();
  const AdamWOptions options{0.9, 0.99, 1e-6};
  std::vector<Definition> expected;
  for (const float value : before) expected.push_back({value});
  for (int64_t t = first_step; t < first_step + 4; ++t) {
    state.step = t - 1;
    state.clip_factor = t == first_step + 2 ? 0.25f : 1.0f;
    std::vector<float> gradient(kCount);
    for (int64_t i = 0; i < kCount; ++i) {
      gradient[i] = std::sin(static_cast<float>(i * t));
      const double g = static_cast<double>(gradient[i]) * state.clip_factor;
      if (i < kFirst) expected[i].step(g, 1e-3, 0, options, t);
      if (i >= kSecondOffset && i < kSecondOffset + kSecond) expected[i].step(g, 1e-2, 0.05, options, t);
    }
    arena.set(arena.gradient, gradient);
    update(arena, state, device, options);
  }
  const std::vector<float> after = arena.get(arena.master);
  double off = 0;
  for (int64_t i = 0; i < kCount; ++i) off = std::max(off, std::abs(after[i] - expected[i].master));
  // Four roundings of each step for values up to 1.5.
  CHECK(off <= 4 * 4 * 1.5 * 0x1p-24);
  for (int64_t i = kFirst; i < kSecondOffset; ++i) CHECK(after[i] == before[i]);
  CHECK(after[kCount - 1] == before[kCount - 1]);
  const std::vector<bf16> working = host_copy<bf16>(arena.working);
  for (int64_t i = 0; i < kSecond; ++i)
    if (working[i].bits != bf16(after[kSecondOffset + i]).bits) FAIL("working copy differs at ", i);
}

}  // namespace

TEST_CASE("adamw follows its definition over several steps") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    for (const auto& [shift, first_step] : {std::pair{0, 1}, {3, 1}, {0, 1000}}) {
      INFO(to_string(device), ", arenas shifted by ", shift, ", from step ", first_step);
      check_definition(device, shift, first_step);
    }
  }
}

TEST_CASE("adamw finds its spans among many, whatever their number") {
  for (const Device& device : devices())
    for (const int64_t spans : {1, 31, 33, 150, 1200}) {
      INFO(to_string(device), ", ", spans, " spans");
      Stream stream(device);
      const StreamScope scope(stream);
      std::vector<ParameterSpan> list;
      int64_t count = 0;
      for (int64_t s = 0; s < spans; ++s) {
        // Spans of a few elements and of several chunks, every third empty.
        const int64_t size = s % 3 == 2 ? 0 : s % 50 == 7 ? 3000 : 5 + s % 64;
        list.push_back({count, size, nullptr, 0, 1, static_cast<int32_t>(s % 2)});
        count += (size + 63) / 64 * 64 + (s % 4 == 0 ? 64 : 0);
      }
      const ParameterArena arena(count, list, std::vector<bool>(list.size()), device);
      arena.set(arena.gradient, std::vector<float>(static_cast<size_t>(count), 1.0f));
      StepState state;
      state.learning_rate[0] = 0.5f;
      state.learning_rate[1] = 0.25f;
      update(arena, state, device);
      const std::vector<float> after = arena.get(arena.master);
      std::vector<float> expected(after.size());
      for (const ParameterSpan& span : list)
        for (int64_t i = 0; i < span.count; ++i) expected[span.offset + i] = span.group ? -0.25f : -0.5f;
      double off = 0;
      for (size_t i = 0; i < after.size(); ++i) off = std::max<double>(off, std::abs(after[i] - expected[i]));
      CHECK(off < 1e-6);  // the first step has the length of the rate
    }
}

TEST_CASE("adamw changes nothing in a step that is skipped") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    const ParameterArena arena = two_spans(device);
    const std::vector<float> before = arena.get(arena.master);
    StepState state = state_with_rates();
    state.skip = 1;
    update(arena, state, device);
    CHECK(arena.get(arena.master) == before);
    CHECK(max_abs(to_values(arena.m)) == 0);
    CHECK(max_abs(to_values(arena.v)) == 0);
  }
}

TEST_CASE("adamw gives the same bits for any number of threads and any order, and takes an empty list") {
  const int threads = compute_threads();
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    std::vector<std::vector<float>> found;
    for (const int count : {1, 3}) {
      set_compute_threads(count);
      emulator::SettingsScope settings;
      emulator::settings().schedule = count == 1 ? emulator::Schedule::lock_step : emulator::Schedule::greedy;
      emulator::settings().seed = static_cast<uint64_t>(count);
      const ParameterArena arena = two_spans(device);
      update(arena, state_with_rates(), device);
      found.push_back(arena.get(arena.master));
    }
    CHECK(found[0] == found[1]);
    const Tensor state = bytes_of(std::vector{state_with_rates()}, device);
    kernels::adamw(stream, nullptr, nullptr, nullptr, nullptr, {nullptr, 0, 0}, state_of(state), {});
  }
  set_compute_threads(threads);
}
