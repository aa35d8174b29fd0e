#include "vtl/kernels/sgd/sgd.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

constexpr int64_t kCount = 70003, kGap = 5;

std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("sgd follows its definition with and without momentum") {
  for (const double momentum : {0.0, 0.9}) {
    std::vector<float> master = floats(random_values("master", kCount)), velocity(kCount);
    const std::vector<float> before = master, gradient = floats(random_values("gradient", kCount));
    std::vector<bf16> working(kCount - kGap);
    const std::vector<kernels::ParameterSpan> spans{{kGap, kCount - kGap, working.data(), 0.01f, 2.0f, 1}};
    StepState state;
    state.learning_rate[1] = 0.05f;
    state.clip_factor = 0.5f;
    Stream stream(Device::cpu());
    Values expected(before.begin(), before.end()), speed(kCount);
    for (int t = 0; t < 3; ++t) {
      kernels::sgd(stream, master.data(), gradient.data(), momentum > 0 ? velocity.data() : nullptr,
                   {spans.data(), 1, kCount}, &state, static_cast<float>(momentum));
      for (int64_t i = kGap; i < kCount; ++i) {
        speed[i] = momentum * speed[i] + gradient[i] * 0.5 + 0.01 * expected[i];
        expected[i] -= 0.1 * speed[i];
      }
    }
    double off = 0;
    for (int64_t i = 0; i < kCount; ++i) off = std::max(off, std::abs(master[i] - expected[i]));
    CHECK(off <= 3 * 4 * 2 * 0x1p-24);  // four roundings in each of three steps, of values below 2
    for (int64_t i = 0; i < kGap; ++i) CHECK(master[i] == before[i]);
    for (int64_t i = kGap; i < kCount; ++i)
      if (working[i - kGap].bits != bf16(master[i]).bits) FAIL("working copy differs at ", i);

    const std::vector<float> at_rest = master;
    state.skip = 1;
    kernels::sgd(stream, master.data(), gradient.data(), velocity.data(), {spans.data(), 1, kCount}, &state, 0.9f);
    CHECK(master == at_rest);
  }
}
