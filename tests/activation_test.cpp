#include "vtl/kernels/activation/activation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/layers/elementwise.h"
#include "vtl/tests/harness/activation_value.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::Activation;

constexpr Activation kKinds[] = {Activation::none,       Activation::relu,     Activation::relu6,
                                 Activation::silu,       Activation::gelu_erf, Activation::gelu_tanh,
                                 Activation::gelu_quick, Activation::sigmoid};

// f(x + bias) with gradients to both, which no layer of its own needs.
Tensor biased_activation(const Tensor& x, const Tensor& bias, Activation kind) {
  const kernels::ActivationDims dims{x.dim(0), x.dim(1)};
  Tensor y = empty_like(x);
  kernels::activation_forward(stream(), x.dtype(), kind, x.data(), bias.f32(), y.data(), dims);
  record("biased_activation", {&y}, {&x, &bias}, [=, x = x.value(), bias = bias.value()](Grads& g) {
    const Tensor dy = g.out();
    const Dest dx = g.dest(0), dbias = g.dest(1);
    kernels::activation_backward(stream(), x.dtype(), kind, dy.data(), x.data(), bias.f32(), nullptr, dx, dbias, dims);
  });
  return y;
}

}  // namespace

TEST_CASE("activations follow their definitions") {
  for (const Activation kind : kKinds)
    for (const Shape& shape : {Shape{1}, Shape{0}, Shape{3, 31}, Shape{2, 33}, Shape{2, 197, 96}}) {
      // Among many values some lie so close to a kink that differences across it mean nothing.
      if (shape.numel() > 1000 && (kind == Activation::relu || kind == Activation::relu6)) continue;
      OpCase op;
      op.name = "activation " + std::to_string(static_cast<int>(kind)) + " " + to_string(shape);
      op.inputs = {{"x", shape, vtl::test::Kind::activation, -4, 8}};
      op.define = [=](const auto& in) {
        Values y = in[0];
        for (auto& v : y) v = activation_value(kind, v);
        return y;
      };
      op.run = [=](const auto& in) { return layers::activation(in[0], kind); };
      examine(op);
    }
}

TEST_CASE("a bias is added before the activation and gets the column sums") {
  for (const Activation kind : kKinds)
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {0, 3}, {5, 33}, {131, 40}}) {
      OpCase op;
      op.name = "biased activation " + std::to_string(static_cast<int>(kind)) + " " + to_string(Shape{rows, cols});
      op.inputs = {{"x", {rows, cols}, vtl::test::Kind::activation, -3, 8},
                   {"bias", {cols}, vtl::test::Kind::parameter}};
      op.define = [=, cols = cols](const auto& in) {
        Values y = in[0];
        for (size_t i = 0; i < y.size(); ++i)
          y[i] = activation_value(kind, y[i] + in[1][i % static_cast<size_t>(cols)]);
        return y;
      };
      op.run = [=](const auto& in) { return biased_activation(in[0], in[1], kind); };
      op.gradient_terms = static_cast<double>(rows) + 1;
      examine(op);
    }
}

TEST_CASE("activations keep their accuracy far from zero, and only NaN makes NaN") {
  constexpr int kCount = 20001;
  Values x(kCount);
  for (int i = 0; i < kCount; ++i) x[static_cast<size_t>(i)] = -10.0 + 20.0 * i / (kCount - 1);
  for (const double far : {-3e4, -100.0, 100.0, 3e4}) x.push_back(far);
  x = rounded(x, DType::f32);
  x.push_back(std::nan(""));
  const auto count = static_cast<int64_t>(x.size());
  for (const Device& device : devices())
    for (const Activation kind : kKinds) {
      CAPTURE(to_string(device));
      CAPTURE(static_cast<int>(kind));
      Stream stream(device);
      const StreamScope scope(stream);
      const Tensor values = to_tensor(x, {count}, DType::f32, device);
      kernels::activation_forward(stream, DType::f32, kind, values.data(), nullptr, values.data(), {1, count});
      const Values y = to_values(values);
      double worst = 0;
      for (size_t i = 0; i + 1 < x.size(); ++i)
        worst = std::max(worst, std::abs(activation_value(kind, x[i]) - y[i]) / (1 + std::abs(x[i])));
      CHECK(worst <= 2e-7);
      CHECK(std::isnan(y.back()));
    }
}
