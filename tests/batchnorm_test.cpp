#include "vtl/layers/batchnorm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/tests/harness/activation_value.h"
#include "vtl/tests/harness/devices.h"
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

Tensor floats(const Values& values, Device device) {
  return to_tensor(values, {static_cast<int64_t>(values.size())}, DType::f32, device);
}
Tensor nothing(int64_t count, Device device) {
  return floats(Values(static_cast<size_t>(count), std::nan("")), device);
}

Values moments_of(const Values& x, int64_t rows, int64_t channels, Device device) {
  Stream stream(device);
  const Tensor moments = nothing(kernels::batchnorm_moments_size(channels), device);
  kernels::batchnorm_statistics(stream, DType::f32, floats(x, device).data(), moments.f32(), {rows, channels});
  return to_values(moments);
}

Values joined(Values first, const Values& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
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
                           {1100, 12, false, Activation::silu},
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
  for (const auto& [rows, channels] : {std::pair<int64_t, int64_t>{5000, 20}, {700, 33}, {20000, 1}}) {
    Values x = random_values("far", rows * channels, -1, 1);
    for (auto& v : x) v += 3000;
    x = rounded(x, DType::f32);
    const Statistics expected = statistics(x, rows, channels);
    for (const Device& device : devices()) {
      INFO(to_string(device), ", ", rows, " x ", channels);
      const Values moments = moments_of(x, rows, channels, device);
      for (int64_t c = 0; c < channels; ++c) {
        CHECK(std::abs(moments[c] - expected.mean[c]) <= 2 * 0x1p-24 * 3001);
        CHECK(std::abs(moments[channels + c] / rows - expected.variance[c]) <= 1e-5 * expected.variance[c]);
      }
      CHECK(moments[2 * channels] == rows);
    }
  }
}

TEST_CASE("moments of parts merge into those of the whole") {
  const int64_t channels = 7, first = 100, second = 301;
  const Values x = rounded(random_values("parts", (first + second) * channels, -2, 3), DType::f32);
  const Statistics whole = statistics(x, first + second, channels);
  for (const Device& device : devices()) {
    INFO(to_string(device));
    const Values a = moments_of({x.begin(), x.begin() + first * channels}, first, channels, device);
    const Values b = moments_of({x.begin() + first * channels, x.end()}, second, channels, device);
    const Tensor both = floats(joined(a, b), device), mean = nothing(channels, device),
                 rstd = nothing(channels, device);
    const Tensor running_mean = floats(Values(channels, 1), device), running_var = floats(Values(channels, 2), device);
    const Tensor batches = to_tensor({41}, {1}, DType::i64, device);
    Stream stream(device);
    kernels::batchnorm_finish(stream, both.f32(), mean.f32(), rstd.f32(), running_mean.f32(), running_var.f32(),
                              batches.data_as<int64_t>(), {channels, 2, kEps, 0.1f});
    CHECK(to_values(batches) == Values{42});
    for (int64_t c = 0; c < channels; ++c) {
      const double unbiased = whole.variance[c] * (first + second) / (first + second - 1);
      CHECK(to_values(mean)[c] == doctest::Approx(whole.mean[c]).epsilon(1e-5));
      CHECK(to_values(rstd)[c] == doctest::Approx(1 / std::sqrt(whole.variance[c] + kEps)).epsilon(1e-5));
      CHECK(to_values(running_mean)[c] == doctest::Approx(0.9 + 0.1 * whole.mean[c]).epsilon(1e-5));
      CHECK(to_values(running_var)[c] == doctest::Approx(1.8 + 0.1 * unbiased).epsilon(1e-5));
    }
  }
}

TEST_CASE("a part without rows changes nothing, and no rows at all leave the running values alone") {
  const int64_t channels = 2;
  for (const Device& device : devices()) {
    INFO(to_string(device));
    Stream stream(device);
    const Values some = moments_of({1, 2, 3, 6}, 2, channels, device), none = moments_of({}, 0, channels, device);
    const Tensor mean = nothing(channels, device), rstd = nothing(channels, device);
    const Tensor running = floats({5, 5}, device), batches = to_tensor({0}, {1}, DType::i64, device);
    kernels::batchnorm_finish(stream, floats(none, device).f32(), mean.f32(), rstd.f32(), running.f32(), running.f32(),
                              batches.data_as<int64_t>(), {channels, 1, kEps, 0.1f});
    CHECK(to_values(mean) == Values{0, 0});
    CHECK(to_values(rstd)[0] == doctest::Approx(1 / std::sqrt(kEps)));
    CHECK(to_values(running) == Values{5, 5});
    CHECK(to_values(batches) == Values{0});
    kernels::batchnorm_finish(stream, floats(joined(some, none), device).f32(), mean.f32(), rstd.f32(), nullptr,
                              nullptr, nullptr, {channels, 2, kEps, 0.1f});
    CHECK(to_values(mean) == Values{2, 4});
  }
}

TEST_CASE("batchnorm works in place, forward and backward") {
  const int64_t rows = 45, channels = 20, count = rows * channels;
  const kernels::BatchNormDims dims{rows, channels};
  for (const Device& device : devices()) {
    INFO(to_string(device));
    Stream stream(device);
    const auto random = [&](const char* what, int64_t size, double low = -1.5, double high = 1.5) {
      return floats(random_values(what, size, low, high), device);
    };
    const auto copy = [&](const Tensor& t) { return floats(to_values(t), device); };
    const Tensor x = random("x", count), dy = random("dy", count), residual = random("residual", count);
    const Tensor weight = random("weight", channels, 0.5, 1.5), bias = random("bias", channels);
    const Tensor mean = random("mean", channels), rstd = random("rstd", channels, 0.5, 2);
    const kernels::BatchNormScale scale{mean.f32(), rstd.f32(), weight.f32(), bias.f32()};
    const Tensor y = nothing(count, device), sums = nothing(2 * channels, device);
    const Tensor dx = nothing(count, device), dresidual = nothing(count, device);
    const auto relu = Activation::relu;
    kernels::batchnorm_apply(stream, DType::f32, x.data(), scale, residual.data(), relu, y.data(), dims);
    const kernels::BatchNormSaved saved{x.data(), nullptr, y.data()};
    kernels::batchnorm_backward_reduce(stream, DType::f32, dy.data(), saved, scale, relu, sums.f32(), {}, {}, nullptr,
                                       dims);
    kernels::batchnorm_backward_apply(stream, DType::f32, dy.data(), saved, scale, relu, sums.f32(), rows, {dx.data()},
                                      {dresidual.data()}, dims);
    {
      INFO("y over x");
      const Tensor over = copy(x);
      kernels::batchnorm_apply(stream, DType::f32, over.data(), scale, residual.data(), relu, over.data(), dims);
      CHECK(to_values(over) == to_values(y));
    }
    {
      INFO("g over dy, then dx over g");
      const Tensor over = copy(dy), same_sums = nothing(2 * channels, device);
      kernels::batchnorm_backward_reduce(stream, DType::f32, over.data(), saved, scale, relu, same_sums.f32(), {}, {},
                                         over.data(), dims);
      CHECK(to_values(over) == to_values(dresidual));
      CHECK(to_values(same_sums) == to_values(sums));
      kernels::batchnorm_backward_apply(stream, DType::f32, over.data(), {x.data()}, scale, Activation::none,
                                        sums.f32(), rows, {over.data()}, {}, dims);
      CHECK(to_values(over) == to_values(dx));
    }
    {
      INFO("the derivative from the output is that from the recomputed input");
      const Tensor same_sums = nothing(2 * channels, device);
      kernels::batchnorm_backward_reduce(stream, DType::f32, dy.data(), {x.data(), residual.data()}, scale, relu,
                                         same_sums.f32(), {}, {}, nullptr, dims);
      CHECK(to_values(same_sums) == to_values(sums));
    }
    {
      INFO("a frozen layer needs no x where nothing asks for it");
      const Tensor with_x = nothing(count, device), without = nothing(count, device), dbias = nothing(channels, device);
      kernels::batchnorm_frozen_backward(stream, DType::f32, dy.data(), saved, scale, relu, {with_x.data()}, {}, {}, {},
                                         dims);
      kernels::batchnorm_frozen_backward(stream, DType::f32, dy.data(), {nullptr, nullptr, y.data()}, scale, relu,
                                         {without.data()}, {}, {}, {dbias.data()}, dims);
      CHECK(to_values(with_x) == to_values(without));
      CHECK(to_values(dbias)[0] == to_values(sums)[0]);
    }
  }
}
