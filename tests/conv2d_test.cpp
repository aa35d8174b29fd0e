#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/kernels/conv2d/conv2d.h"
#include "vtl/tests/harness/activation_value.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

using namespace vtl;
using namespace vtl::kernels;
using test::activation_value;
using test::Values;

namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

std::string to_string(const Conv2dDims& d) {
  return concat(d.batch, "x", d.in_h, "x", d.in_w, "x", d.in_channels, " -> ", d.out_channels, " kernel ", d.kernel_h,
                "x", d.kernel_w, " stride ", d.stride_h, "x", d.stride_w, " pad ", d.pad_top, ",", d.pad_bottom, ",",
                d.pad_left, ",", d.pad_right, " dilation ", d.dilation_h, "x", d.dilation_w, " groups ", d.groups);
}

int64_t x_count(const Conv2dDims& d) { return d.batch * d.in_h * d.in_w * d.in_channels; }
int64_t y_count(const Conv2dDims& d) { return d.batch * d.out_h() * d.out_w() * d.out_channels; }
int64_t w_count(const Conv2dDims& d) { return d.out_channels * d.kernel_h * d.kernel_w * (d.in_channels / d.groups); }

// f(index in x, index in w, index in y) for every product of the convolution.
template <class F>
void for_each_product(const Conv2dDims& d, F&& f) {
  const int64_t in = d.in_channels / d.groups, out = d.out_channels / d.groups;
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t i = 0; i < d.out_h(); ++i)
      for (int64_t j = 0; j < d.out_w(); ++j)
        for (int64_t o = 0; o < d.out_channels; ++o)
          for (int64_t p = 0; p < d.kernel_h; ++p)
            for (int64_t q = 0; q < d.kernel_w; ++q) {
              const int64_t h = i * d.stride_h + p * d.dilation_h - d.pad_top,
                            w = j * d.stride_w + q * d.dilation_w - d.pad_left;
              if (h < 0 || h >= d.in_h || w < 0 || w >= d.in_w) continue;
              for (int64_t c = 0; c < in; ++c)
                f(((b * d.in_h + h) * d.in_w + w) * d.in_channels + o / out * in + c,
                  ((o * d.kernel_h + p) * d.kernel_w + q) * in + c,
                  ((b * d.out_h() + i) * d.out_w() + j) * d.out_channels + o);
            }
}

// Rounding of a sum of `terms` products of size up to 1.5^2 in f32 (random walk; Winograd's transforms multiply it by a
// few), and twice what a naive bf16 computation loses by rounding sum and result (half an ulp, 2^-9, each).
double tolerance(double terms, double magnitude, DType out) {
  return 32 * kEps * std::sqrt(terms + 1) * 2.25 + 2e-6 * magnitude + (out == DType::bf16 ? 0x1p-7 * magnitude : 0);
}

struct Data {
  Values x, w, dy;

  Data(const Conv2dDims& d, DType in)
      : x(test::rounded(test::random_values("x", x_count(d)), in)),
        w(test::rounded(test::random_values("w", w_count(d)), in)),
        dy(test::rounded(test::random_values("dy", y_count(d)), in)) {}
};

Tensor vector_of(const Values& values, DType dtype, Device device) {
  return test::to_tensor(values, {static_cast<int64_t>(values.size())}, dtype, device);
}
Tensor nothing(int64_t count, DType dtype, Device device) { return vector_of(Values(count, NAN), dtype, device); }

// f(stream) on every device of this build.
template <class F>
void on_each_device(F&& f) {
  for (const Device device : test::devices()) {
    CAPTURE(to_string(device));
    Stream stream(device);
    const StreamScope scope(stream);
    f(stream);
  }
}

// Only the CPU packs weights.
std::vector<bool> packings(const Stream& stream) {
  return stream.device().kind == DeviceKind::cpu ? std::vector<bool>{false, true} : std::vector<bool>{false};
}

Values sum(Values a, const Values& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

struct EpilogueCase {
  bool scale = false, bias = false, residual = false, in_place = false, preactivation = false;
  Activation activation = Activation::none;
};

void check_forward(const Conv2dDims& d, DType in, DType out, const EpilogueCase& t = {}) {
  CAPTURE(to_string(d));
  CAPTURE(name(in));
  CAPTURE(name(out));
  const Data data(d, in);
  const Values scale = test::rounded(test::random_values("scale", d.out_channels, 0.5, 1.5), DType::f32);
  const Values bias = test::rounded(test::random_values("bias", d.out_channels), DType::f32);
  const Values residual = test::rounded(test::random_values("residual", y_count(d)), out);
  Values before(y_count(d));
  for_each_product(d, [&](int64_t x, int64_t w, int64_t y) { before[y] += data.x[x] * data.w[w]; });
  Values expected(before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    if (t.scale) before[i] *= scale[i % d.out_channels];
    if (t.bias) before[i] += bias[i % d.out_channels];
    if (t.residual) before[i] += residual[i];
    expected[i] = activation_value(t.activation, before[i]);
  }
  const double allowed = tolerance(double(w_count(d) / d.out_channels), test::max_abs(before), out);

  on_each_device([&](Stream& stream) {
    const Device device = stream.device();
    const Tensor x = vector_of(data.x, in, device), w = vector_of(data.w, in, device);
    const Tensor t_scale = vector_of(scale, DType::f32, device), t_bias = vector_of(bias, DType::f32, device);
    const Tensor t_residual = vector_of(residual, out, device);
    for (const bool pack : packings(stream)) {
      CAPTURE(pack);
      const Tensor y = t.in_place ? vector_of(residual, out, device) : nothing(y_count(d), out, device);
      const Tensor t_before = nothing(y_count(d), out, device);
      Epilogue epilogue;
      if (t.scale) epilogue.scale = t_scale.f32();
      if (t.bias) epilogue.bias = t_bias.f32();
      if (t.residual) epilogue.residual = t.in_place ? y.data() : t_residual.data();
      if (t.preactivation) epilogue.preactivation = t_before.data();
      epilogue.activation = t.activation;
      const PackedWeightPtr packed = pack ? conv2d_pack(stream, d, ConvDirection::forward, w.data(), in) : nullptr;
      conv2d_forward(stream, d, x.data(), in, w.data(), in, y.data(), out, epilogue, packed.get());
      CHECK(test::max_difference(test::to_values(y), expected) <= allowed);
      if (t.preactivation) CHECK(test::max_difference(test::to_values(t_before), before) <= allowed);
    }
  });
}

enum class Addend { none, other, in_place };

constexpr Addend kAddends[] = {Addend::none, Addend::other, Addend::in_place};

void check_backward_data(const Conv2dDims& d, DType in, DType out) {
  CAPTURE(to_string(d));
  CAPTURE(name(in));
  const Data data(d, in);
  const Values addend = test::rounded(test::random_values("addend", x_count(d)), out);
  Values gradient(x_count(d));
  for_each_product(d, [&](int64_t x, int64_t w, int64_t y) { gradient[x] += data.dy[y] * data.w[w]; });
  const double terms = double(d.kernel_h * d.kernel_w * d.out_channels / d.groups);
  on_each_device([&](Stream& stream) {
    const Device device = stream.device();
    const Tensor dy = vector_of(data.dy, in, device), w = vector_of(data.w, in, device);
    const Tensor t_addend = vector_of(addend, out, device);
    for (const auto mode : kAddends)
      for (const bool pack : packings(stream)) {
        CAPTURE(int(mode));
        CAPTURE(pack);
        const Values expected = mode == Addend::none ? gradient : sum(gradient, addend);
        const Tensor dx = mode == Addend::in_place ? vector_of(addend, out, device) : nothing(x_count(d), out, device);
        const Dest dest{dx.data(), mode == Addend::none    ? nullptr
                                   : mode == Addend::other ? t_addend.data()
                                                           : dx.data()};
        const PackedWeightPtr packed =
            pack ? conv2d_pack(stream, d, ConvDirection::backward_data, w.data(), in) : nullptr;
        conv2d_backward_data(stream, d, dy.data(), in, w.data(), in, dest, out, packed.get());
        CHECK(test::max_difference(test::to_values(dx), expected) <= tolerance(terms, test::max_abs(expected), out));
      }
  });
}

void check_backward_weight(const Conv2dDims& d, DType in) {
  CAPTURE(to_string(d));
  CAPTURE(name(in));
  const Data data(d, in);
  const Values addend = test::rounded(test::random_values("addend", w_count(d)), DType::f32);
  Values gradient(w_count(d)), expected_bias(d.out_channels);
  for_each_product(d, [&](int64_t x, int64_t w, int64_t y) { gradient[w] += data.dy[y] * data.x[x]; });
  for (int64_t i = 0; i < y_count(d); ++i) expected_bias[i % d.out_channels] += data.dy[i];
  const double terms = double(d.batch * d.out_h() * d.out_w());
  on_each_device([&](Stream& stream) {
    const Device device = stream.device();
    const Tensor x = vector_of(data.x, in, device), dy = vector_of(data.dy, in, device);
    const Tensor t_addend = vector_of(addend, DType::f32, device);
    for (const auto mode : kAddends) {
      CAPTURE(int(mode));
      const Values expected = mode == Addend::none ? gradient : sum(gradient, addend);
      const Tensor dw =
          mode == Addend::in_place ? vector_of(addend, DType::f32, device) : nothing(w_count(d), DType::f32, device);
      const Tensor db = nothing(d.out_channels, DType::f32, device);
      const Dest dest{dw.data(), mode == Addend::none ? nullptr : mode == Addend::other ? t_addend.data() : dw.data()};
      conv2d_backward_weight(stream, d, x.data(), in, dy.data(), in, dest, {db.data(), nullptr});
      CHECK(test::max_difference(test::to_values(dw), expected) <=
            tolerance(terms, test::max_abs(expected), DType::f32));
      CHECK(test::max_difference(test::to_values(db), expected_bias) <=
            tolerance(terms, test::max_abs(expected_bias), DType::f32));
    }
  });
}

void check_all(const Conv2dDims& d) {
  check_forward(d, DType::f32, DType::f32);
  check_forward(d, DType::bf16, DType::bf16);
  check_forward(d, DType::bf16, DType::f32);
  check_backward_data(d, DType::f32, DType::f32);
  check_backward_data(d, DType::bf16, DType::bf16);
  check_backward_data(d, DType::bf16, DType::f32);
  check_backward_weight(d, DType::f32);
  check_backward_weight(d, DType::bf16);
}

Conv2dDims square(int64_t batch, int64_t size, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                  int64_t groups = 1) {
  Conv2dDims d{batch, size, size, in, out, kernel, kernel};
  d.stride_h = d.stride_w = stride;
  d.pad_top = d.pad_bottom = d.pad_left = d.pad_right = pad;
  d.groups = groups;
  return d;
}

}  // namespace

TEST_CASE("convolutions of the usual networks match their definition") {
  check_all(square(2, 7, 16, 32, 1, 1, 0));  // pointwise
  check_all(square(2, 8, 16, 32, 1, 2, 0));  // the shortcut of a ResNet stage
  check_all(square(2, 9, 16, 32, 3, 1, 1));
  check_all(square(1, 8, 32, 16, 3, 1, 1));
  check_all(square(2, 9, 16, 16, 3, 2, 1));
  check_all(square(1, 19, 3, 16, 7, 2, 3));    // stem
  check_all(square(2, 32, 3, 24, 16, 16, 0));  // patch embedding
  check_all(square(1, 11, 8, 16, 5, 1, 2));
}

TEST_CASE("convolutions of awkward sizes match their definition") {
  check_all(square(1, 1, 1, 1, 1, 1, 0));
  check_all(square(1, 1, 5, 7, 3, 1, 1));
  check_all(square(3, 5, 7, 5, 3, 1, 1));
  check_all(square(1, 6, 31, 33, 3, 1, 0));
  check_all(square(2, 5, 3, 4, 3, 3, 0));
  check_all(square(1, 4, 4, 4, 1, 3, 1));
  Conv2dDims d{2, 6, 9, 5, 6, 2, 3};
  d.stride_h = 2;
  d.pad_top = 1;
  d.pad_right = 2;
  check_all(d);
  d.dilation_h = 2;
  d.dilation_w = 3;
  check_all(d);
}

TEST_CASE("asymmetric padding matches its definition") {
  Conv2dDims d = square(2, 8, 16, 16, 3, 2, 0);
  d.pad_bottom = d.pad_right = 1;  // TensorFlow's SAME
  check_all(d);
  d = square(1, 7, 16, 32, 3, 1, 0);
  d.pad_top = 2;
  d.pad_right = 1;
  check_all(d);
}

TEST_CASE("dilated convolutions match their definition") {
  Conv2dDims d = square(1, 11, 8, 16, 3, 1, 2);
  d.dilation_h = d.dilation_w = 2;
  check_all(d);
}

TEST_CASE("grouped convolutions match their definition") {
  check_all(square(2, 7, 16, 32, 3, 1, 1, 4));
  check_all(square(1, 8, 12, 6, 3, 2, 1, 3));
  check_all(square(1, 5, 8, 16, 1, 1, 0, 2));
  check_all(square(1, 5, 8, 16, 3, 1, 1, 8));  // two filters for each channel
}

TEST_CASE("depthwise convolutions match their definition") {
  for (const int64_t channels : {1, 5, 16, 33})
    for (const int64_t kernel : {3, 5})
      for (const int64_t stride : {1, 2}) {
        check_all(square(2, 7, channels, channels, kernel, stride, kernel / 2, channels));
        Conv2dDims d = square(1, 12, channels, channels, kernel, stride, kernel / 2, channels);
        d.in_w = 17;
        d.pad_top = d.pad_left = (kernel - stride) / 2;  // TensorFlow's SAME
        d.pad_bottom = d.pad_right = kernel - stride - d.pad_top;
        check_all(d);
      }
  check_all(square(1, 9, 8, 8, 7, 1, 3, 8));
  check_all(square(1, 9, 8, 8, 7, 2, 3, 8));
  check_all(square(1, 9, 8, 8, 4, 3, 1, 8));
  check_all(square(1, 2, 8, 8, 5, 1, 2, 8));
  check_all(square(1, 2, 8, 8, 5, 2, 2, 8));
  check_all(square(1, 1, 8, 8, 3, 2, 1, 8));
  Conv2dDims d = square(1, 11, 8, 8, 3, 1, 2, 8);
  d.dilation_h = d.dilation_w = 2;
  check_all(d);
  d.stride_h = d.stride_w = 2;
  check_all(d);
  check_all(square(1, 9, 8, 8, 3, 1, 3, 8));  // more padding than the kernel reaches
}

TEST_CASE("every epilogue of a convolution matches its definition") {
  const Conv2dDims kinds[] = {square(1, 6, 8, 16, 1, 1, 0), square(1, 6, 16, 16, 3, 1, 1), square(1, 6, 3, 5, 3, 2, 1),
                              square(1, 6, 16, 16, 3, 1, 1, 16), square(1, 6, 8, 6, 3, 1, 1, 2)};
  for (const auto& d : kinds)
    for (const auto activation : {Activation::none, Activation::relu, Activation::relu6, Activation::silu})
      for (int mask = 0; mask < 32; ++mask) {
        const bool residual = mask & 4;
        if (!residual && (mask & 16)) continue;
        if (activation != Activation::relu && mask != 0 && mask != 2 && mask != 15)
          continue;  // all combinations with one only
        const EpilogueCase t{(mask & 1) != 0, (mask & 2) != 0, residual, (mask & 16) != 0, (mask & 8) != 0, activation};
        check_forward(d, DType::f32, DType::f32, t);
        check_forward(d, DType::bf16, DType::bf16, t);
      }
}

TEST_CASE("larger convolutions match their definition") {
  check_all(square(2, 14, 32, 64, 3, 1, 1));
  check_all(square(2, 9, 64, 32, 3, 1, 1));
  Conv2dDims d = square(2, 11, 32, 32, 3, 1, 0);
  d.pad_top = 2;
  d.pad_right = 1;
  d.in_w = 13;
  check_all(d);
  check_all(square(1, 14, 96, 96, 5, 1, 2, 96));
}

TEST_CASE("a convolution whose transformed weight outgrows the cache matches its definition") {
  const Conv2dDims d = square(10, 7, 160, 192, 3, 1, 1);
  check_forward(d, DType::f32, DType::f32);
  check_backward_data(d, DType::f32, DType::f32);
  check_backward_weight(d, DType::f32);
}

TEST_CASE("own convolution kernels give the same bits for any number of threads") {
  const int before = compute_threads();
  for (const auto& d : {square(4, 14, 32, 64, 3, 1, 1), square(3, 14, 48, 48, 5, 2, 2, 48)}) {
    CAPTURE(to_string(d));
    const Data data(d, DType::f32);
    const Tensor x = vector_of(data.x, DType::f32, Device::cpu()), w = vector_of(data.w, DType::f32, Device::cpu()),
                 upstream = vector_of(data.dy, DType::f32, Device::cpu());
    std::vector<Values> results;
    for (const int threads : {1, 2, 3}) {
      set_compute_threads(threads);
      Stream stream(Device::cpu());
      const Tensor y = Tensor::empty({y_count(d)}, DType::f32, Device::cpu());
      const Tensor dx = Tensor::empty({x_count(d)}, DType::f32, Device::cpu());
      const Tensor dw = Tensor::empty({w_count(d)}, DType::f32, Device::cpu());
      conv2d_forward(stream, d, x.data(), DType::f32, w.data(), DType::f32, y.data(), DType::f32);
      conv2d_backward_data(stream, d, upstream.data(), DType::f32, w.data(), DType::f32, {dx.data()}, DType::f32);
      conv2d_backward_weight(stream, d, x.data(), DType::f32, upstream.data(), DType::f32, {dw.data()}, {});
      Values all = test::to_values(y);
      for (const Tensor& t : {dx, dw})
        for (const double value : test::to_values(t)) all.push_back(value);
      results.push_back(all);
    }
    set_compute_threads(before);
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
}

TEST_CASE("a convolution of nothing has gradients of zero") {
  for (const int64_t groups : {1, 6}) {
    const Conv2dDims d = square(0, 5, 6, 6, 3, 1, 1, groups);
    on_each_device([&](Stream& stream) {
      const Tensor dw = nothing(w_count(d), DType::f32, stream.device()), db = nothing(6, DType::f32, stream.device());
      conv2d_backward_weight(stream, d, nullptr, DType::f32, nullptr, DType::f32, {dw.data()}, {db.data()});
      CHECK(test::max_abs(test::to_values(dw)) == 0);
      CHECK(test::max_abs(test::to_values(db)) == 0);
    });
  }
}

TEST_CASE("groups that do not divide the channels are refused") {
  Stream stream(Device::cpu());
  float value = 0;
  const Conv2dDims d = square(1, 3, 5, 4, 3, 1, 1, 2);
  CHECK_THROWS_AS(conv2d_forward(stream, d, &value, DType::f32, &value, DType::f32, &value, DType::f32), Error);
}
