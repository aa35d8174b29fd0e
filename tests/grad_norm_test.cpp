#include "vtl/kernels/grad_norm/grad_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/parallel.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

StepState after(const std::vector<float>& gradient, float max_norm) {
  Stream stream(Device::cpu());
  StepState state;
  state.skip = 1;
  state.clip_factor = -1;
  kernels::grad_norm(stream, gradient.data(), static_cast<int64_t>(gradient.size()), max_norm, &state);
  return state;
}

}  // namespace

TEST_CASE("the norm of all gradients is exact to the last bit of f32") {
  for (const int64_t count : {0, 1, 31, 33, 200001}) {
    const Values values = rounded(random_values("gradient", count, -3, 3), DType::f32);
    double squares = 0;
    for (const double v : values) squares += v * v;
    const StepState state = after({values.begin(), values.end()}, 0);
    CHECK(state.grad_norm == static_cast<float>(std::sqrt(squares)));
    CHECK(state.clip_factor == 1);
    CHECK(state.skip == 0);
  }
}

TEST_CASE("a norm above the limit is clipped to it, one below is not") {
  const std::vector<float> gradient{3, 4};
  CHECK(after(gradient, 1.0f).clip_factor == doctest::Approx(1 / (5 + 1e-6)));
  CHECK(after(gradient, 6.0f).clip_factor == 1);
}

TEST_CASE("gradients far apart in size neither overflow nor vanish") {
  CHECK(after({1e30f, 1e30f}, 1.0f).grad_norm == doctest::Approx(std::sqrt(2.0) * 1e30));
  CHECK(after({1e-30f, 0, 0}, 1.0f).grad_norm == doctest::Approx(1e-30));
}

TEST_CASE("one gradient that is not finite skips the step, wherever it is") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::nanf("")})
    for (const size_t at : {size_t{0}, size_t{70000}, size_t{131080}}) {
      std::vector<float> gradient(131081, 0.5f);
      gradient[at] = bad;
      const StepState state = after(gradient, 1.0f);
      CHECK(state.skip == 1);
      CHECK(!std::isfinite(state.grad_norm));
    }
}

TEST_CASE("the norm has the same bits for any number of threads") {
  const Values values = random_values("threads", 300000);
  const std::vector<float> gradient(values.begin(), values.end());
  const int threads = compute_threads();
  set_compute_threads(1);
  const float one = after(gradient, 1.0f).grad_norm;
  set_compute_threads(3);
  const float three = after(gradient, 1.0f).grad_norm;
  set_compute_threads(threads);
  CHECK(one == three);
}

TEST_CASE("a step counts unless it was skipped") {
  Stream stream(Device::cpu());
  StepState state;
  state.step = 7;
  state.micro_batch = 3;
  kernels::step_advance(stream, &state);
  CHECK(state.step == 8);
  CHECK(state.micro_batch == 0);
  state.skip = 1;
  kernels::step_advance(stream, &state);
  CHECK(state.step == 8);
}
