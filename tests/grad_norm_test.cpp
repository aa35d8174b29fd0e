#include "vtl/kernels/grad_norm/grad_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/parallel.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"
#include "vtl/tests/harness/parameter_arena.h"

namespace {

using namespace vtl;
using namespace vtl::test;

StepState* writable_state(const Tensor& bytes) { return static_cast<StepState*>(bytes.data()); }

StepState after(const std::vector<float>& gradient, float max_norm, Device device = Device::cpu(), int64_t shift = 0) {
  Stream stream(device);
  const StreamScope scope(stream);
  const auto count = static_cast<int64_t>(gradient.size());
  const Tensor all = Tensor::zeros({shift + count}, DType::f32, device);
  all.slice(0, shift, shift + count).copy_from_host(std::as_bytes(std::span(gradient)));
  StepState before;
  before.skip = 1;
  before.clip_factor = -1;
  const Tensor state = bytes_of(std::vector{before}, device);
  kernels::grad_norm(stream, all.f32() + shift, count, max_norm, writable_state(state));
  return host_copy(state);
}

}  // namespace

TEST_CASE("the norm of all gradients is exact to the last bit of f32") {
  for (const Device& device : devices())
    for (const int64_t count : {0, 1, 31, 33, 8192, 200001})
      for (const int64_t shift : {0, 1}) {
        INFO(to_string(device), ", ", count, " gradients from element ", shift);
        const Values values = rounded(random_values("gradient", count, -3, 3), DType::f32);
        double squares = 0;
        for (const double v : values) squares += v * v;
        const StepState state = after({values.begin(), values.end()}, 0, device, shift);
        CHECK(state.grad_norm == static_cast<float>(std::sqrt(squares)));
        CHECK(state.clip_factor == 1);
        CHECK(state.skip == 0);
      }
}

TEST_CASE("a norm above the limit is clipped to it, one below is not") {
  const std::vector<float> gradient{3, 4};
  for (const Device& device : devices()) {
    CHECK(after(gradient, 1.0f, device).clip_factor == doctest::Approx(1 / (5 + 1e-6)));
    CHECK(after(gradient, 6.0f, device).clip_factor == 1);
  }
}

TEST_CASE("gradients far apart in size neither overflow nor vanish") {
  for (const Device& device : devices()) {
    CHECK(after({1e30f, 1e30f}, 1.0f, device).grad_norm == doctest::Approx(std::sqrt(2.0) * 1e30));
    CHECK(after({1e-30f, 0, 0}, 1.0f, device).grad_norm == doctest::Approx(1e-30));
    CHECK(after({3e38f, 3e38f}, 1.0f, device).skip == 1);
  }
}

TEST_CASE("one gradient that is not finite skips the step, wherever it is") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Device& device : devices())
    for (const float bad : {infinity, -infinity, std::nanf("")})
      for (const size_t at : {size_t{0}, size_t{70000}, size_t{131080}}) {
        std::vector<float> gradient(131081, 0.5f);
        gradient[at] = bad;
        const StepState state = after(gradient, 1.0f, device);
        CHECK(state.skip == 1);
        CHECK(!std::isfinite(state.grad_norm));
      }
}

TEST_CASE("the norm has the same bits for any number of threads and any order") {
  const Values values = random_values("threads", 300000);
  const std::vector<float> gradient(values.begin(), values.end());
  const int threads = compute_threads();
  for (const Device& device : devices()) {
    set_compute_threads(1);
    const float one = after(gradient, 1.0f, device).grad_norm;
    set_compute_threads(3);
    const emulator::SettingsScope settings({.schedule = emulator::Schedule::greedy, .seed = 3});
    const float three = after(gradient, 1.0f, device).grad_norm;
    set_compute_threads(threads);
    CHECK(one == three);
  }
}

TEST_CASE("a step counts unless it was skipped") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    for (const int32_t skip : {0, 1}) {
      StepState before;
      before.step = 7;
      before.micro_batch = 3;
      before.skip = skip;
      const Tensor state = bytes_of(std::vector{before}, device);
      kernels::step_advance(stream, writable_state(state));
      CHECK(host_copy(state).step == (skip ? 7 : 8));
      CHECK(host_copy(state).micro_batch == 0);
    }
  }
}
