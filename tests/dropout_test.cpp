#include "vtl/layers/dropout.h"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/rng.h"
#include "vtl/core/step_state.h"
#include "vtl/kernels/drop_path/drop_path.h"
#include "vtl/kernels/dropout/dropout.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

// Number `index` of a layer in one micro-batch, as the contract states it.
float number(RandomStream what, uint32_t layer, const StepState& s, uint64_t index) {
  const uint64_t counter = random_counter(what, layer);
  const Philox4 words =
      philox(counter, static_cast<uint64_t>(s.step) << 32 | static_cast<uint64_t>(s.micro_batch), s.seed);
  return uniform(philox(counter, index / 4, static_cast<uint64_t>(words.v[1]) << 32 | words.v[0]).v[index % 4]);
}

StepState some_step() {
  StepState s;
  s.seed = 0x123456789abcdefULL;
  s.step = 17;
  s.micro_batch = 2;
  return s;
}

Tensor on_device(const StepState& s, Device device) {
  const auto bytes = std::as_bytes(std::span(&s, 1));
  return Tensor::from_bytes(bytes, {static_cast<int64_t>(bytes.size())}, DType::u8, device);
}
const StepState* state_in(const Tensor& bytes) { return static_cast<const StepState*>(bytes.data()); }

// run(inputs) with the state in the context, in the memory of the inputs' device.
template <class F>
auto with_state(const StepState& s, F run) {
  return [s, run, kept = std::make_shared<Tensor>()](const std::vector<Tensor>& in) {
    *kept = on_device(s, in[0].device());  // until the backward pass is over
    const StepScope step(state_in(*kept));
    return run(in);
  };
}

}  // namespace

TEST_CASE("dropout zeroes the elements that its numbers say and scales the others") {
  const StepState state = some_step();
  const TrainingScope training;
  for (const int64_t count : {0, 1, 31, 33, 1000, 70001}) {
    OpCase op;
    op.name = concat("dropout ", count);
    op.inputs = {{"x", {count}}};
    op.define = [=](const auto& in) {
      Values y = in[0];
      for (size_t i = 0; i < y.size(); ++i)
        y[i] = number(RandomStream::dropout, 5, state, i) >= 0.3f ? y[i] / (1 - 0.3) : 0;
      return y;
    };
    op.run = with_state(state, [](const auto& in) { return layers::dropout(in[0], {0.3f, 5}); });
    examine(op);
  }
}

TEST_CASE("drop_path keeps or drops whole samples and adds the residual") {
  const StepState state = some_step();
  const TrainingScope training;
  for (const auto& [batch, count] : {std::pair<int64_t, int64_t>{1, 1}, {0, 3}, {13, 31}, {6, 33}, {3, 40000}}) {
    OpCase op;
    op.name = concat("drop_path ", batch, "x", count);
    op.inputs = {{"x", {batch, count}}, {"residual", {batch, count}}};
    op.define = [=, count = count](const auto& in) {
      Values y = in[1];
      for (size_t i = 0; i < y.size(); ++i)
        if (number(RandomStream::drop_path, 9, state, i / static_cast<size_t>(count)) >= 0.4f)
          y[i] += in[0][i] / (1 - 0.4);
      return y;
    };
    op.run = with_state(state, [](const auto& in) { return layers::drop_path(in[0], {0.4f, 9}, in[1]); });
    examine(op);
  }
}

TEST_CASE("masks are fixed by seed, step, micro-batch, layer and global index, and by nothing else") {
  const auto mask_on = [&](Device device, const StepState& s, uint32_t layer, int64_t first, int64_t count) {
    Stream stream(device);
    const StreamScope scope(stream);
    const Tensor y = to_tensor(Values(static_cast<size_t>(count), 1), {count}, DType::f32, device);
    const Tensor state = on_device(s, device);
    kernels::dropout_forward(stream, DType::f32, y.data(), y.data(), state_in(state), {count, 0.5f, layer, first});
    return to_values(y);
  };
  const auto mask = [&](const StepState& s, uint32_t layer, int64_t first, int64_t count) {
    return mask_on(Device::cpu(), s, layer, first, count);
  };
  const StepState s = some_step();
  const auto whole = mask(s, 1, 0, 1000);
  for (const Device& device : devices())
    for (const int64_t first : {0, 1, 3, 64, 333}) {
      CAPTURE(to_string(device));
      const auto part = mask_on(device, s, 1, first, 500);
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + first));
    }
  StepState seed = s, step = s, micro = s;
  ++seed.seed, ++step.step, ++micro.micro_batch;
  for (const auto& other :
       {mask(seed, 1, 0, 1000), mask(step, 1, 0, 1000), mask(micro, 1, 0, 1000), mask(s, 2, 0, 1000)}) {
    int64_t same = 0;
    for (size_t i = 0; i < 1000; ++i) same += whole[i] == other[i];
    CHECK(std::abs(static_cast<double>(same) - 500) < 5 * std::sqrt(250.0));  // five standard deviations of a fair coin
  }
}

TEST_CASE("dropout drops the fraction p and keeps the mean") {
  const int64_t count = 100000;
  const std::vector<float> ones(static_cast<size_t>(count), 1.0f);
  std::vector<float> y(ones.size());
  const StepState s = some_step();
  kernels::dropout_forward(stream(), DType::f32, ones.data(), y.data(), &s, {count, 0.1f, 0});
  double dropped = 0;
  for (const float v : y) dropped += v == 0;
  CHECK(std::abs(dropped - 0.1 * count) < 5 * std::sqrt(0.1 * 0.9 * count));
}

TEST_CASE("dropout and drop_path do nothing outside training") {
  const Tensor x = to_tensor(random_values("x", 12), {3, 4}, DType::f32);
  CHECK(layers::dropout(x, {0.5f, 1}).same_storage(x));
  CHECK(layers::drop_path(x, {0.5f, 1}, {}).same_storage(x));
  CHECK(to_values(layers::drop_path(x, {0.5f, 1}, x)) == to_values(to_tensor(
                                                             [&] {
                                                               Values twice = to_values(x);
                                                               for (auto& v : twice) v *= 2;
                                                               return twice;
                                                             }(),
                                                             {3, 4}, DType::f32)));
}
