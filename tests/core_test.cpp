// Memory, order, the tape, random numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "vtl/core/allocator.h"
#include "vtl/core/captured_step.h"
#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"
#include "vtl/core/tape.h"
#include "vtl/layers/elementwise.h"
#include "vtl/layers/linear.h"
#include "vtl/tests/harness/errors.h"
#include "vtl/tests/harness/op_case.h"

using namespace vtl;
using test::kind_of;

namespace {

Tensor constant(const Shape& shape, float value) {
  const std::vector<float> values(static_cast<size_t>(shape.numel()), value);
  return Tensor::from(std::span<const float>(values), shape);
}

Tensor learning(Tensor t) {
  auto slot = std::make_shared<Slot>();
  slot->parameter = true;
  t.set_slot(slot);
  return t;
}

}  // namespace

TEST_CASE("shapes refuse what no tensor can have") {
  CHECK(kind_of([] { Shape({2, -1}); }) == ErrorKind::bad_argument);
  CHECK(kind_of([] { Shape({int64_t{1} << 40, int64_t{1} << 40}); }) == ErrorKind::bad_argument);
  CHECK(kind_of([] { Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}); }) == ErrorKind::bad_argument);
  CHECK(Shape({2, 0, 3}).numel() == 0);
  CHECK(Shape{}.numel() == 1);
  CHECK(to_string(Shape({2, 3})) == "[2, 3]");
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN") {
  CHECK(bf16(1.0f).bits == 0x3f80);
  CHECK(bf16(1.00390625f).bits == 0x3f80);  // halfway between 1 and the next: to even
  CHECK(bf16(1.01171875f).bits == 0x3f82);  // halfway, the other way
  CHECK(bf16(3.4e38f).bits == 0x7f80);      // overflows to infinity
  const float nan = static_cast<float>(bf16(__builtin_nanf("1")));
  CHECK(nan != nan);
}

TEST_CASE("a freed block is used again") {
  const auto device = Device::cpu();
  { const Tensor warm_up = Tensor::empty({1 << 20}, DType::f32, device); }
  const auto before = memory_stats(device);
  for (int i = 0; i < 10; ++i) const Tensor again = Tensor::empty({1 << 20}, DType::f32, device);
  CHECK(memory_stats(device).device_allocations == before.device_allocations);
  CHECK(memory_stats(device).live_bytes == before.live_bytes);
}

TEST_CASE("neighbouring free blocks merge") {
  const auto device = Device::cpu();
  const int64_t quarter = int64_t{2} << 20;
  std::vector<Tensor> parts;
  for (int i = 0; i < 4; ++i) parts.push_back(Tensor::empty({quarter}, DType::f32, device));
  const auto held = memory_stats(device).reserved_bytes;
  parts.clear();
  const Tensor whole = Tensor::empty({3 * quarter}, DType::f32, device);
  CHECK(memory_stats(device).reserved_bytes == held);
}

TEST_CASE("guard zones notice a write outside") {
  set_allocation_guards(true);
  const int64_t before = damaged_guards();
  {
    const Tensor t = Tensor::empty({3}, DType::f32, Device::cpu());
    CHECK(t.f32()[0] != t.f32()[0]);
    t.f32()[3] = 1.0f;
  }
  CHECK(damaged_guards() == before + 1);
  set_allocation_guards(false);
}

TEST_CASE("scratch nests and becomes one piece") {
  Stream stream(Device::cpu());
  for (int round = 0; round < 3; ++round) {
    const Scratch outer = stream.scratch(1000);
    outer.f32()[0] = 1.0f;
    {
      const Scratch inner = stream.scratch(5 << 20);
      CHECK(inner.data() != outer.data());
      inner.f32()[0] = 2.0f;
      const Scratch innermost = stream.scratch(100);
      innermost.f32()[0] = 3.0f;
      CHECK(inner.f32()[0] == 2.0f);
    }
    CHECK(outer.f32()[0] == 1.0f);
  }
  CHECK(stream.scratch_peak() >= (5u << 20));
}

TEST_CASE("views share storage and check their bounds") {
  std::vector<float> values(24);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor t = Tensor::from(std::span<const float>(values), {2, 3, 4});
  CHECK(t.slice(1, 1, 3).data() == t.f32() + 4);
  CHECK(t.slice(1, 1, 3).shape() == Shape({2, 2, 4}));
  CHECK_FALSE(t.slice(1, 1, 3).is_dense());
  CHECK(t.permute({2, 0, 1}).shape() == Shape({4, 2, 3}));
  CHECK(kind_of([&] { t.slice(1, 1, 4); }) == ErrorKind::bad_argument);
  CHECK(kind_of([&] { t.permute({0, 0, 1}); }) == ErrorKind::bad_argument);
  CHECK(kind_of([&] { t.permute({2, 0, 1}).reshape({24}); }) == ErrorKind::bad_argument);
  CHECK(kind_of([&] { t.item(); }) == ErrorKind::bad_argument);
}

TEST_CASE("a device that is not in the build is an unsupported error") {
  CHECK(kind_of([] { Tensor::empty({1}, DType::f32, Device::cuda(99)); }) == ErrorKind::unsupported);
}

TEST_CASE("a frozen prefix records nothing") {
  const Tensor x = constant({2, 3}, 1), frozen = constant({3, 3}, 0.5), weight = learning(constant({4, 3}, 0.5));
  Tape tape;
  const TapeScope scope(tape);
  const Tensor h = layers::linear(x, frozen, {});
  CHECK(tape.size() == 0);
  CHECK_FALSE(h.slot());
  const Tensor y = layers::linear(h, weight, {});
  CHECK(tape.size() == 1);
  CHECK(y.slot());
}

TEST_CASE("without a tape nothing learns") {
  const Tensor y = layers::scale(learning(constant({2}, 1)), 2);
  CHECK_FALSE(y.slot());
}

TEST_CASE("gradients of a tensor used twice are summed") {
  const Tensor x = learning(constant({3}, 1));
  Tape tape;
  {
    const TapeScope scope(tape);
    const Tensor y = layers::add(layers::scale(x, 2), layers::add(x, layers::scale(x, 3)));
    tape.backward(y, constant({3}, 1));
  }
  CHECK(tape.size() == 0);
  CHECK(x.slot()->grad.f32()[2] == 6.0f);
}

TEST_CASE("micro-batches accumulate until the filled flag is cleared") {
  const Tensor x = learning(constant({1}, 1));
  Tape tape;
  const TapeScope scope(tape);
  for (int i = 0; i < 3; ++i) tape.backward(layers::scale(x, 2));
  CHECK(x.slot()->grad.item() == 6.0f);
  x.slot()->filled = false;
  tape.backward(layers::scale(x, 2));
  CHECK(x.slot()->grad.item() == 2.0f);
}

TEST_CASE("the tape says when the last gradient of a slot has arrived") {
  const Tensor x = learning(constant({1}, 1)), w = learning(constant({1}, 1));
  std::vector<int> arrived;
  x.slot()->on_ready = [&] { arrived.push_back(0); };
  w.slot()->on_ready = [&] { arrived.push_back(1); };
  Tape tape;
  const TapeScope scope(tape);
  const Tensor y = layers::add(layers::scale(x, 2), x);
  tape.backward(layers::add(y, w));
  CHECK(arrived == std::vector<int>{1, 0});
}

TEST_CASE("activations die as the tape is walked") {
  const Tensor x = learning(constant({1 << 16}, 0.5));
  const auto live = [] { return memory_stats(Device::cpu()).live_bytes; };
  const size_t before = live();
  Tape tape;
  const TapeScope scope(tape);
  Tensor y = layers::activation(x, kernels::Activation::silu);
  for (int i = 0; i < 8; ++i) y = layers::activation(y, kernels::Activation::silu);
  const size_t kept = live() - before;
  const Tensor gradient = empty_like(y);
  gradient.zero();
  const Tensor root = y;
  y = Tensor();
  tape.backward(root, gradient);
  CHECK(kept >= 8u * (1 << 18));
  CHECK(live() - before <= 4u * (1 << 18));  // root, its gradient, the gradient of x
}

TEST_CASE("an exception in backward leaves the tape empty and usable") {
  const Tensor x = learning(constant({1}, 1));
  Tape tape;
  const TapeScope scope(tape);
  Tensor y = empty_like(x);
  record("broken", {&y}, {&x}, [](Grads&) { fail(ErrorKind::internal, "broken"); });
  CHECK(kind_of([&] { tape.backward(y); }) == ErrorKind::internal);
  CHECK(tape.size() == 0);
  CHECK(context().tape == &tape);
  CHECK(x.slot()->pending == 0);
}

TEST_CASE("Philox gives the published numbers") {
  // Known answers of the Random123 distribution: counter and key all zero, all ones.
  const Philox4 zero = philox(0, 0, 0);
  CHECK(zero.v[0] == 0x6627e8d5u);
  CHECK(zero.v[1] == 0xe169c58du);
  CHECK(zero.v[2] == 0xbc57ac4cu);
  CHECK(zero.v[3] == 0x9b00dbd8u);
  const Philox4 ones = philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0});
  CHECK(ones.v[0] == 0x408f276du);
  CHECK(ones.v[1] == 0x41c83b0eu);
  CHECK(ones.v[2] == 0xa20bc7c6u);
  CHECK(ones.v[3] == 0x6d5451fdu);
}

TEST_CASE("random sequences depend on all their keys") {
  const auto first = [](uint64_t seed, RandomStream stream, uint32_t sub, uint32_t index) {
    return RandomSequence(seed, stream, sub, index).bits();
  };
  const uint32_t base = first(1, RandomStream::augment, 2, 3);
  CHECK(base == first(1, RandomStream::augment, 2, 3));
  CHECK(base != first(2, RandomStream::augment, 2, 3));
  CHECK(base != first(1, RandomStream::shuffle, 2, 3));
  CHECK(base != first(1, RandomStream::augment, 3, 3));
  CHECK(base != first(1, RandomStream::augment, 2, 4));
}

TEST_CASE("parallel loops visit every chunk once") {
  const int threads = compute_threads();
  for (const int count : {1, 3}) {
    set_compute_threads(count);
    std::array<int, 1000> seen{};
    parallel_for(1000, 7, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
  }
  set_compute_threads(threads);
}

TEST_CASE("a captured step runs its work on a device without graphs") {
  Stream stream(Device::cpu());
  int runs = 0;
  CapturedStep step(stream, [&] { ++runs; });
  step.run();
  step.run();
  CHECK(runs == 2);
}
