#include "vtl/layers/linear.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "vtl/core/tape.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::Activation;

// y = x W^T (+ bias) (+ residual), row-major
Values product(const Values& x, const Values& w, int64_t rows, int64_t in, int64_t out) {
  Values y(static_cast<size_t>(rows * out));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * w[o * in + i];
  return y;
}

OpCase linear_case(int64_t rows, int64_t in, int64_t out, bool residual, Activation activation) {
  OpCase op;
  op.name = "linear " + std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out);
  op.inputs = {{"x", {rows, in}}, {"weight", {out, in}, Kind::matrix}, {"bias", {out}, Kind::parameter}};
  if (residual) op.inputs.push_back({"residual", {rows, out}});
  op.define = [=](const auto& v) {
    Values y = product(v[0], v[1], rows, in, out);
    for (int64_t e = 0; e < rows * out; ++e) {
      y[e] += v[2][e % out] + (residual ? v[3][e] : 0.0);
      if (activation == Activation::gelu_erf) y[e] = 0.5 * y[e] * (1 + std::erf(y[e] / std::sqrt(2.0)));
    }
    return y;
  };
  op.run = [=](const auto& t) { return layers::linear(t[0], t[1], t[2], residual ? t[3] : Tensor(), activation); };
  op.terms = static_cast<double>(in);
  op.gradient_terms = static_cast<double>(std::max(rows, out));
  op.ulps = 8;
  op.same_bits_for_any_threads = false;
  return op;
}

}  // namespace

TEST_CASE("linear follows its definition") {
  for (const auto& [rows, in, out] : {std::array<int64_t, 3>{1, 1, 1}, {3, 31, 5}, {33, 2, 17}, {197, 64, 48}}) {
    examine(linear_case(rows, in, out, false, Activation::none));
    examine(linear_case(rows, in, out, true, Activation::none));
  }
  // A bf16 activation works on a rounded pre-activation, an error of its own on top of the output's.
  OpCase gelu = linear_case(7, 19, 33, false, Activation::gelu_erf);
  gelu.dtypes = {DType::f32};
  examine(gelu);
}

TEST_CASE("low-rank adapters add their product to their rows and learn") {
  // y = x W^T + b, columns begin ... begin + part of y += 0.5 * (x A^T) B^T
  const int64_t rows = 9, in = 12, out = 14, rank = 3;
  for (const auto& [begin, part] : {std::pair<int64_t, int64_t>{4, 6}, {0, 14}}) {
    OpCase op;
    op.name = "low rank";
    op.inputs = {{"x", {rows, in}}, {"weight", {out, in}, Kind::matrix}, {"bias", {out}, Kind::parameter},
                 {"a", {rank, in}, Kind::matrix}, {"b", {part, rank}, Kind::matrix}};
    op.define = [=, begin = begin, part = part](const auto& v) {
      Values y = product(v[0], v[1], rows, in, out);
      const Values delta = product(product(v[0], v[3], rows, in, rank), v[4], rows, rank, part);
      for (int64_t e = 0; e < rows * out; ++e) {
        y[e] += v[2][e % out];
        const int64_t c = e % out - begin;
        if (c >= 0 && c < part) y[e] += 0.5 * delta[e / out * part + c];
      }
      return y;
    };
    op.run = [=, begin = begin, part = part](const auto& t) {
      layers::Linear layer(in, out);
      const auto put = [](layers::Parameter& parameter, const Tensor& value) {
        parameter.set_value(value.value());
        parameter.share_slot(value.slot());
      };
      put(layer.weight, t[1]);
      put(layer.bias, t[2]);
      layers::LowRank adapter{"", begin, {{rank, in}, layers::Role::matrix}, {{part, rank}, layers::Role::matrix}, 0.5f};
      put(adapter.a, t[3]);
      put(adapter.b, t[4]);
      layer.low_rank.push_back(adapter);
      return layers::linear(t[0], layer);
    };
    op.dtypes = {DType::f32};
    op.terms = static_cast<double>(in);
    op.gradient_terms = 64;
    op.ulps = 8;
    op.same_bits_for_any_threads = false;
    examine(op);
  }
}

TEST_CASE("linear names what does not fit") {
  const Tensor x = Tensor::zeros({2, 5}, DType::f32, Device::cpu()), w = Tensor::zeros({3, 4}, DType::f32, Device::cpu());
  CHECK_THROWS_WITH(layers::linear(x, w, {}), "linear: the input has shape [2, 5], the weight expects 4 columns");
}
