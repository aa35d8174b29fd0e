#include "vtl/kernels/sgd/sgd.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"
#include "vtl/tests/harness/parameter_arena.h"

namespace {

using namespace vtl;
using namespace vtl::test;

constexpr int64_t kCount = 70003;

std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

void update(const ParameterArena& a, const StepState& state, Device device, double momentum) {
  const Tensor on_device = bytes_of(std::vector{state}, device);
  kernels::sgd(stream(), a.data(a.master), a.data(a.gradient), momentum > 0 ? a.data(a.m) : nullptr, a.view(),
               state_of(on_device), static_cast<float>(momentum));
}

// The span begins `gap` elements into the arena: a multiple of four and another.
void check_definition(Device device, double momentum, int64_t gap) {
  const ParameterArena arena(kCount, {{gap, kCount - gap, nullptr, 0.01f, 2.0f, 1}}, {true}, device);
  arena.set(arena.master, floats(random_values("master", kCount)));
  arena.set(arena.gradient, floats(random_values("gradient", kCount)));
  const std::vector<float> before = arena.get(arena.master), gradient = arena.get(arena.gradient);
  StepState state;
  state.learning_rate[1] = 0.05f;
  state.clip_factor = 0.5f;
  Values expected(before.begin(), before.end()), speed(kCount);
  for (int t = 0; t < 3; ++t) {
    update(arena, state, device, momentum);
    for (int64_t i = gap; i < kCount; ++i) {
      speed[i] = momentum * speed[i] + gradient[i] * 0.5 + 0.01 * expected[i];
      expected[i] -= 0.1 * speed[i];
    }
  }
  const std::vector<float> after = arena.get(arena.master);
  double off = 0;
  for (int64_t i = 0; i < kCount; ++i) off = std::max(off, std::abs(after[i] - expected[i]));
  CHECK(off <= 3 * 4 * 2 * 0x1p-24);  // four roundings in each of three steps, of values below 2
  for (int64_t i = 0; i < gap; ++i) CHECK(after[i] == before[i]);
  const std::vector<bf16> working = host_copy<bf16>(arena.working);
  for (int64_t i = gap; i < kCount; ++i)
    if (working[i - gap].bits != bf16(after[i]).bits) FAIL("working copy differs at ", i);

  state.skip = 1;
  update(arena, state, device, momentum);
  CHECK(arena.get(arena.master) == after);
}

}  // namespace

TEST_CASE("sgd follows its definition with and without momentum") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    for (const double momentum : {0.0, 0.9})
      for (const int64_t gap : {4, 5}) {
        INFO(to_string(device), ", momentum ", momentum, ", span from ", gap);
        check_definition(device, momentum, gap);
      }
  }
}
