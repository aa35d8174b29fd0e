#include "vtl/optim/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/copy/copy.h"

using namespace vtl;
using namespace vtl::optim;
using layers::Parameter;
using layers::Role;

namespace {

Parameter learning(const std::vector<float>& values, Role role) {
  const Shape shape{static_cast<int64_t>(values.size())};
  Parameter parameter(shape, role);
  parameter.set_value(Tensor::from<float>(values, shape));
  parameter.make_learn(parameter.master());
  return parameter;
}

std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  tensor.copy_to_host(std::as_writable_bytes(std::span(values)));
  return values;
}

// What a backward pass leaves in the slot.
void give_gradient(const Parameter& parameter, const std::vector<float>& gradient) {
  const Slot& slot = *parameter.value().slot();
  slot.grad.copy_from_host(std::as_bytes(std::span(gradient)));
  parameter.value().slot()->filled = true;
}

// One parameter as the definition updates it, in f64.
struct Reference {
  std::vector<double> w, m, v;
  double rate, decay;

  void adamw(const std::vector<double>& g, int t) {
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
      const double mean = m[i] / (1 - std::pow(0.9, t)), square = v[i] / (1 - std::pow(0.999, t));
      w[i] = w[i] * (1 - rate * decay) - rate * mean / (std::sqrt(square) + 1e-8);
    }
  }
  void sgd(const std::vector<double>& g, double momentum) {
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = momentum * m[i] + g[i] + decay * w[i];
      w[i] -= rate * m[i];
    }
  }
};

Reference reference(const std::vector<float>& values, double rate, double decay) {
  return {{values.begin(), values.end()},
          std::vector<double>(values.size()),
          std::vector<double>(values.size()),
          rate,
          decay};
}

void check_close(const std::vector<float>& found, const std::vector<double>& wanted) {
  REQUIRE(found.size() == wanted.size());
  // A handful of f32 operations a step on values near one.
  for (size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - wanted[i]) <= 2e-6);
}

const std::vector<float> kMatrix = {0.5f, -1.0f, 2.0f}, kBias = {0.25f, -0.75f};

// A matrix two blocks below the head and a bias beside the head.
struct Problem {
  Parameter matrix = learning(kMatrix, Role::matrix), bias = learning(kBias, Role::vector);
  std::vector<Group> groups;

  Problem() {
    groups.push_back({"backbone", 0.01, 0.1, 0.5, {{"matrix", &matrix, 2}}});
    groups.push_back({"head", 0.1, 0.1, 0.5, {{"bias", &bias, 0}}});
  }
};

OptimizerOptions options(OptimizerKind kind, float clip = 0, float momentum = 0.9f) {
  OptimizerOptions o;
  o.kind = kind;
  o.clip_norm = clip;
  o.momentum = momentum;
  return o;
}

std::vector<float> gradient_at(int step, size_t count) {
  std::vector<float> g;
  for (size_t i = 0; i < count; ++i)
    g.push_back(std::sin(1.0f + static_cast<float>(step) + 2.0f * static_cast<float>(i)));
  return g;
}

std::vector<double> wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("decay leaves out vectors and tokens, and layer decay counts from the head") {
  Problem p;
  Parameter token = learning({1}, Role::token);
  const Group& group = p.groups[0];
  CHECK(weight_decay(group, {"matrix", &p.matrix, 2}) == 0.1);
  CHECK(weight_decay(group, {"bias", &p.bias, 2}) == 0.0);
  CHECK(weight_decay(group, {"token", &token, 2}) == 0.0);
  CHECK(learning_rate_factor(group, {"matrix", &p.matrix, 2}) == 0.25);
  CHECK(learning_rate_factor(group, {"matrix", &p.matrix, 0}) == 1.0);
  CHECK(count_elements(group) == 3);
}

TEST_CASE("AdamW over groups follows its definition") {
  Problem p;
  Optimizer optimizer(options(OptimizerKind::adamw), p.groups, Device::cpu(), 0);
  Reference matrix = reference(kMatrix, 0.01 * 0.25, 0.1), bias = reference(kBias, 0.1, 0);
  for (int t = 1; t <= 5; ++t) {
    const double factor = 1.0 / t;
    optimizer.zero_grad();
    give_gradient(p.matrix, gradient_at(t, 3));
    give_gradient(p.bias, gradient_at(t + 10, 2));
    optimizer.step(factor);
    matrix.rate = 0.01 * 0.25 * factor;
    bias.rate = 0.1 * factor;
    matrix.adamw(wide(gradient_at(t, 3)), t);
    bias.adamw(wide(gradient_at(t + 10, 2)), t);
    CHECK(optimizer.read_state().step == t);
  }
  check_close(values_of(p.matrix.value()), matrix.w);
  check_close(values_of(p.bias.value()), bias.w);
}

TEST_CASE("SGD with and without momentum follows its definition") {
  for (const float momentum : {0.0f, 0.9f}) {
    CAPTURE(momentum);
    Problem p;
    Optimizer optimizer(options(OptimizerKind::sgd, 0, momentum), p.groups, Device::cpu(), 0);
    Reference matrix = reference(kMatrix, 0.01 * 0.25, 0.1), bias = reference(kBias, 0.1, 0);
    for (int t = 1; t <= 4; ++t) {
      optimizer.zero_grad();
      give_gradient(p.matrix, gradient_at(t, 3));
      give_gradient(p.bias, gradient_at(t + 10, 2));
      optimizer.step(1.0);
      matrix.sgd(wide(gradient_at(t, 3)), momentum);
      bias.sgd(wide(gradient_at(t + 10, 2)), momentum);
    }
    check_close(values_of(p.matrix.value()), matrix.w);
    check_close(values_of(p.bias.value()), bias.w);
  }
}

TEST_CASE("clipping scales all gradients by their common norm") {
  Problem p;
  Optimizer optimizer(options(OptimizerKind::sgd, 1.0f, 0), p.groups, Device::cpu(), 0);
  give_gradient(p.matrix, {3, 0, 0});
  give_gradient(p.bias, {0, 4});
  optimizer.step(1.0);
  CHECK(optimizer.read_state().grad_norm == doctest::Approx(5));
  CHECK(optimizer.read_state().clip_factor == doctest::Approx(0.2));
  CHECK(values_of(p.bias.value())[1] == doctest::Approx(-0.75 - 0.1 * 0.2 * 4));
}

TEST_CASE("a gradient that is not finite changes nothing and is no step") {
  Problem p;
  Optimizer optimizer(options(OptimizerKind::adamw), p.groups, Device::cpu(), 0);
  give_gradient(p.matrix, {1, std::numeric_limits<float>::quiet_NaN(), 1});
  give_gradient(p.bias, {1, 1});
  optimizer.step(1.0);
  CHECK(optimizer.read_state().skip != 0);
  CHECK(optimizer.read_state().step == 0);
  CHECK(values_of(p.matrix.value()) == kMatrix);
  CHECK(values_of(p.bias.value()) == kBias);
}

TEST_CASE("a parameter that no gradient arrived for does not see the one of the step before") {
  Problem p;
  Optimizer optimizer(options(OptimizerKind::sgd, 0, 0), p.groups, Device::cpu(), 0);
  give_gradient(p.matrix, {1, 1, 1});
  give_gradient(p.bias, {1, 1});
  optimizer.step(1.0);
  const std::vector<float> before = values_of(p.bias.value());
  optimizer.zero_grad();
  give_gradient(p.matrix, {1, 1, 1});
  optimizer.step(1.0);
  CHECK(values_of(p.bias.value()) == before);
}

TEST_CASE("gradients are views of one arena and survive between micro-batches") {
  Problem p;
  Optimizer optimizer(options(OptimizerKind::sgd, 0, 0), p.groups, Device::cpu(), 0);
  CHECK(p.matrix.value().slot()->grad.same_storage(p.bias.value().slot()->grad));
  CHECK(p.matrix.master().same_storage(p.bias.master()));
  CHECK(values_of(p.matrix.value()) == kMatrix);
  CHECK(optimizer.arena_bytes() == static_cast<size_t>(2 * optimizer.arena_count()) * sizeof(float));
  const Tensor arena_view = p.matrix.value().slot()->grad;
  // A step that is made of two micro-batches: the second contribution adds to the first.
  const auto contribute = [&](float value) {
    Tape tape;
    TapeScope recording(tape);
    Tensor sum = Tensor::from<float>(std::vector<float>{0}, {1});
    record("sum", {&sum}, {&p.matrix.value()}, [value](Grads& g) {
      const Dest dest = g.dest(0);
      for (int i = 0; i < 3; ++i)
        static_cast<float*>(dest.out)[i] = (dest.addend ? static_cast<const float*>(dest.addend)[i] : 0) + value;
    });
    tape.backward(sum);
  };
  contribute(1);
  contribute(2);
  CHECK(values_of(arena_view) == std::vector<float>{3, 3, 3});
  optimizer.zero_grad();
  contribute(5);
  CHECK(values_of(arena_view) == std::vector<float>{5, 5, 5});
}

TEST_CASE("bf16 working copies follow their masters") {
  Parameter matrix({3}, Role::matrix);
  const Tensor master = Tensor::from<float>(kMatrix, {3});
  const Tensor working = Tensor::empty({3}, DType::bf16, Device::cpu());
  kernels::cast(stream(), DType::f32, master.data(), DType::bf16, working.data(), 3);
  matrix.set_value(working);
  matrix.make_learn(master);
  Optimizer optimizer(options(OptimizerKind::sgd, 0, 0), {{"all", 0.5, 0, 1, {{"matrix", &matrix, 0}}}}, Device::cpu(),
                      0);
  const uint64_t version = matrix.version();
  give_gradient(matrix, {1.0f / 1024, 1, -1});
  optimizer.step(1.0);
  const std::vector<float> updated = values_of(matrix.master());
  CHECK(updated[0] == 0.5f - 0.5f / 1024);
  for (int i = 0; i < 3; ++i)
    CHECK(static_cast<float>(matrix.value().data_as<bf16>()[i]) ==
          static_cast<float>(bf16(updated[static_cast<size_t>(i)])));
  CHECK(matrix.version() > version);
}

TEST_CASE("saved state continues with the same bits") {
  const auto run = [](int from, int to, Problem& p, Optimizer& optimizer) {
    for (int t = from; t <= to; ++t) {
      optimizer.zero_grad();
      give_gradient(p.matrix, gradient_at(t, 3));
      give_gradient(p.bias, gradient_at(t + 10, 2));
      optimizer.step(1.0);
    }
  };
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::sgd}) {
    Problem whole, first, second;
    Optimizer through(options(kind), whole.groups, Device::cpu(), 0);
    run(1, 6, whole, through);

    Optimizer before(options(kind), first.groups, Device::cpu(), 0);
    run(1, 3, first, before);
    second.matrix.master().copy_from(first.matrix.master());
    second.bias.master().copy_from(first.bias.master());
    Optimizer after(options(kind), second.groups, Device::cpu(), 0);
    after.load_state(before.state_tensors());
    run(4, 6, second, after);
    CHECK(values_of(second.matrix.value()) == values_of(whole.matrix.value()));
    CHECK(values_of(second.bias.value()) == values_of(whole.bias.value()));
    CHECK(after.read_state().step == 6);
  }
}

TEST_CASE("a state of another model is refused with all problems") {
  Problem p, other;
  Optimizer optimizer(options(OptimizerKind::adamw), p.groups, Device::cpu(), 0);
  NamedTensors state = optimizer.state_tensors();
  state.pop_back();
  state.erase(state.begin());
  try {
    optimizer.load_state(state);
    FAIL("an incomplete state was accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_model);
    CHECK(error.problems().size() == 2);
  }
  state = optimizer.state_tensors();
  state.emplace_back("stranger.m", Tensor::zeros({1}, DType::f32, Device::cpu()));
  CHECK_THROWS_AS(optimizer.load_state(state), Error);
}

TEST_CASE("an optimizer refuses frozen parameters, doubles and nothing at all") {
  Problem p;
  CHECK_THROWS_AS(Optimizer(options(OptimizerKind::adamw), {}, Device::cpu(), 0), Error);
  CHECK_THROWS_AS(Optimizer(options(OptimizerKind::adamw), {p.groups[0], p.groups[0]}, Device::cpu(), 0), Error);
  p.bias.freeze();
  CHECK_THROWS_AS(Optimizer(options(OptimizerKind::adamw), p.groups, Device::cpu(), 0), Error);
}
