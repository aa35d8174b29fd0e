#include "vtl/layers/batchnorm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/tests/harness/activation_value.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::Activation;

constexpr float kEps = 1e-3f;

struct Statistics {
  Values mean, variance;  // biased
};

Statistics statistics(const Values& x, int64_t rows, int64_t channels) {
  Statistics s{Values(channels), Values(channels)};
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t r = 0; r < rows; ++r) s.mean[c] += x[r * channels + c] / rows;
    for (int64_t r = 0; r < rows; ++r) {
      const double centred = x[r * channels + c] - s.mean[c];
      s.variance[c] += centred * centred / rows;
    }
  }
  return s;
}

// y = activation((x - mean) / sqrt(variance + eps) * weight + bias + residual)
Values apply(const Values& x, const Statistics& s, const Values& weight, const Values& bias, const Values* residual,
             Activation kind, int64_t channels) {
  Values y(x.size()), scale(channels);
  for (int64_t c = 0; c < channels; ++c) scale[c] = weight[c] / std::sqrt(s.variance[c] + kEps);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % channels;
    const double z = (x[i] - s.mean[c]) * scale[c] + bias[c];
    y[i] = activation_value(kind, z + (residual ? (*residual)[i] : 0.0));
  }
  return y;
}

struct Setting {
  int64_t rows, channels;
  bool residual;
  Activation kind;
};

std::string describe(const Setting& s) {
  return std::to_string(s.rows) + "x" + std::to_string(s.channels) + (s.residual ? " + residual" : "") +
         " activation " + std::to_string(static_cast<int>(s.kind));
}

OpCase training_case(const Setting& s) {
  OpCase op;
  op.name = "batchnorm training " + describe(s);
  op.inputs = {{"x", {s.rows, s.channels}},
               {"weight", {s.channels}, Kind::parameter, 0.5, 1.5},
               {"bias", {s.channels}, Kind::parameter}};
  if (s.residual) op.inputs.push_back({"residual", {s.rows, s.channels}});
  op.define = [=](const auto& v) {
    return apply(v[0], statistics(v[0], s.rows, s.channels), v[1], v[2], s.residual ? &v[3] : nullptr, s.kind,
                 s.channels);
  };
  op.run = [=](const auto& t) {
    return layers::batchnorm_training(t[0], t[1], t[2], {}, {}, {}, kEps, 0.1f, s.residual ? t[3] : Tensor(), s.kind);
  };
  op.terms = op.gradient_terms = static_cast<double>(s.rows);
  op.ulps = 16;
  return op;
}

OpCase frozen_case(const Setting& s) {
  OpCase op;
  op.name = "batchnorm frozen " + describe(s);
  op.inputs = {{"x", {s.rows, s.channels}},
               {"weight", {s.channels}, Kind::parameter, 0.5, 1.5},
               {"bias", {s.channels}, Kind::parameter},
               {"mean", {s.channels}, Kind::constant},
               {"variance", {s.channels}, Kind::constant, 0.5, 1.5}};
  if (s.residual) op.inputs.push_back({"residual", {s.rows, s.channels}});
  op.define = [=](const auto& v) {
    return apply(v[0], {v[3], v[4]}, v[1], v[2], s.residual ? &v[5] : nullptr, s.kind, s.channels);
  };
  op.run = [=](const auto& t) {
    return layers::batchnorm_frozen(t[0], t[1], t[2], t[3], t[4], kEps, s.residual ? t[5] : Tensor(), s.kind);
  };
  op.gradient_terms = static_cast<double>(s.rows);
  op.ulps = 16;
  return op;
}

std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

std::vector<float> moments_of(const std::vector<float>& x, int64_t rows, int64_t channels) {
  Stream stream(Device::cpu());
  std::vector<float> moments(kernels::batchnorm_moments_size(channels), NAN);
  kernels::batchnorm_statistics(stream, DType::f32, x.data(), moments.data(), {rows, channels});
  return moments;
}

}  // namespace

// Large cases have smooth activations: among many elements some lie at a kink, where differences mean nothing.
TEST_CASE("batchnorm with batch statistics follows its definition") {
  for (const Setting& s : {Setting{4, 1, false, Activation::none},
                           {33, 3, false, Activation::relu},
                           {31, 24, true, Activation::relu},
                           {50, 32, false, Activation::silu},
                           {37, 33, true, Activation::none},
                           {900, 77, true, Activation::silu},
                           {70, 1030, false, Activation::none}})
    examine(training_case(s));
}

TEST_CASE("batchnorm with running statistics follows its definition") {
  for (const Setting& s : {Setting{1, 1, false, Activation::none},
                           {0, 5, false, Activation::none},
                           {7, 33, false, Activation::relu},
                           {9, 31, true, Activation::relu},
                           {1700, 40, true, Activation::silu}})
    examine(frozen_case(s));
}

TEST_CASE("batchnorm fuses every activation, forward and backward") {
  for (const auto kind : {Activation::relu6, Activation::silu, Activation::gelu_erf, Activation::gelu_tanh,
                          Activation::gelu_quick, Activation::sigmoid})
    for (const bool residual : {false, true}) examine(frozen_case({5, 18, residual, kind}));
}

TEST_CASE("batch statistics survive a mean that is far larger than the spread") {
  const int64_t rows = 5000, channels = 20;
  Values exact = random_values("far", rows * channels, -1, 1);
  for (auto& v : exact) v += 3000;
  const std::vector<float> x = floats(exact);
  const Statistics expected = statistics(Values(x.begin(), x.end()), rows, channels);
  const std::vector<float> moments = moments_of(x, rows, channels);
  for (int64_t c = 0; c < channels; ++c) {
    CHECK(std::abs(moments[c] - expected.mean[c]) <= 2 * 0x1p-24 * 3001);
    CHECK(std::abs(moments[channels + c] / rows - expected.variance[c]) <= 1e-5 * expected.variance[c]);
  }
  CHECK(moments[2 * channels] == rows);
}

TEST_CASE("moments of parts merge into those of the whole") {
  const int64_t channels = 7, first = 100, second = 301;
  const std::vector<float> x = floats(random_values("parts", (first + second) * channels, -2, 3));
  const std::vector<float> a = moments_of({x.begin(), x.begin() + first * channels}, first, channels);
  const std::vector<float> b = moments_of({x.begin() + first * channels, x.end()}, second, channels);
  std::vector<float> both = a;
  both.insert(both.end(), b.begin(), b.end());
  const Statistics whole = statistics(Values(x.begin(), x.end()), first + second, channels);

  Stream stream(Device::cpu());
  std::vector<float> mean(channels), rstd(channels), running_mean(channels, 1.0f), running_var(channels, 2.0f);
  int64_t batches = 41;
  kernels::batchnorm_finish(stream, both.data(), mean.data(), rstd.data(), running_mean.data(), running_var.data(),
                            &batches, {channels, 2, kEps, 0.1f});
  CHECK(batches == 42);
  for (int64_t c = 0; c < channels; ++c) {
    const double unbiased = whole.variance[c] * (first + second) / (first + second - 1);
    CHECK(mean[c] == doctest::Approx(whole.mean[c]).epsilon(1e-5));
    CHECK(rstd[c] == doctest::Approx(1 / std::sqrt(whole.variance[c] + kEps)).epsilon(1e-5));
    CHECK(running_mean[c] == doctest::Approx(0.9 + 0.1 * whole.mean[c]).epsilon(1e-5));
    CHECK(running_var[c] == doctest::Approx(1.8 + 0.1 * unbiased).epsilon(1e-5));
  }
}

TEST_CASE("a part without rows changes nothing, and no rows at all leave the running values alone") {
  Stream stream(Device::cpu());
  const int64_t channels = 2;
  std::vector<float> moments = moments_of({1, 2, 3, 6}, 2, channels);
  const std::vector<float> none = moments_of({}, 0, channels);
  std::vector<float> mean(channels), rstd(channels), running(channels, 5.0f);
  int64_t batches = 0;
  kernels::batchnorm_finish(stream, none.data(), mean.data(), rstd.data(), running.data(), running.data(), &batches,
                            {channels, 1, kEps, 0.1f});
  CHECK(running == std::vector<float>{5, 5});
  CHECK(batches == 0);
  moments.insert(moments.end(), none.begin(), none.end());
  kernels::batchnorm_finish(stream, moments.data(), mean.data(), rstd.data(), nullptr, nullptr, nullptr,
                            {channels, 2, kEps, 0.1f});
  CHECK(mean == std::vector<float>{2, 4});
}

TEST_CASE("batchnorm works in place, forward and backward") {
  const int64_t rows = 45, channels = 19, count = rows * channels;
  const std::vector<float> x = floats(random_values("x", count)), dy = floats(random_values("dy", count)),
                           residual = floats(random_values("residual", count));
  const std::vector<float> weight = floats(random_values("weight", channels, 0.5, 1.5)),
                           bias = floats(random_values("bias", channels)),
                           mean = floats(random_values("mean", channels)),
                           rstd = floats(random_values("rstd", channels, 0.5, 2));
  const kernels::BatchNormScale scale{mean.data(), rstd.data(), weight.data(), bias.data()};
  const kernels::BatchNormDims dims{rows, channels};
  Stream stream(Device::cpu());
  std::vector<float> y(count), sums(2 * channels), dx(count), dresidual(count);
  kernels::batchnorm_apply(stream, DType::f32, x.data(), scale, residual.data(), Activation::relu, y.data(), dims);
  kernels::batchnorm_backward_reduce(stream, DType::f32, dy.data(), {x.data(), nullptr, y.data()}, scale,
                                     Activation::relu, sums.data(), {}, {}, nullptr, dims);
  kernels::batchnorm_backward_apply(stream, DType::f32, dy.data(), {x.data(), nullptr, y.data()}, scale,
                                    Activation::relu, sums.data(), rows, {dx.data(), nullptr},
                                    {dresidual.data(), nullptr}, dims);

  SUBCASE("y over x") {
    std::vector<float> over = x;
    kernels::batchnorm_apply(stream, DType::f32, over.data(), scale, residual.data(), Activation::relu, over.data(),
                             dims);
    CHECK(over == y);
  }
  SUBCASE("g over dy, then dx over g") {
    std::vector<float> over = dy, same_sums(2 * channels);
    kernels::batchnorm_backward_reduce(stream, DType::f32, over.data(), {x.data(), nullptr, y.data()}, scale,
                                       Activation::relu, same_sums.data(), {}, {}, over.data(), dims);
    CHECK(over == dresidual);
    CHECK(same_sums == sums);
    kernels::batchnorm_backward_apply(stream, DType::f32, over.data(), {x.data()}, scale, Activation::none, sums.data(),
                                      rows, {over.data(), nullptr}, {}, dims);
    CHECK(over == dx);
  }
  SUBCASE("the derivative from the output is that from the recomputed input") {
    std::vector<float> same_sums(2 * channels);
    kernels::batchnorm_backward_reduce(stream, DType::f32, dy.data(), {x.data(), residual.data(), nullptr}, scale,
                                       Activation::relu, same_sums.data(), {}, {}, nullptr, dims);
    CHECK(same_sums == sums);
  }
  SUBCASE("a frozen layer needs no x where nothing asks for it") {
    std::vector<float> with_x(count), without(count), dbias(channels);
    kernels::batchnorm_frozen_backward(stream, DType::f32, dy.data(), {x.data(), nullptr, y.data()}, scale,
                                       Activation::relu, {with_x.data(), nullptr}, {}, {}, {}, dims);
    kernels::batchnorm_frozen_backward(stream, DType::f32, dy.data(), {nullptr, nullptr, y.data()}, scale,
                                       Activation::relu, {without.data(), nullptr}, {}, {}, {dbias.data(), nullptr},
                                       dims);
    CHECK(with_x == without);
    CHECK(dbias[0] == sums[0]);
  }
}
