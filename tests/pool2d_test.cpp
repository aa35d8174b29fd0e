#include "vtl/kernels/pool2d/pool2d.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/context.h"
#include "vtl/core/tape.h"
#include "vtl/layers/pool2d.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::AdaptivePool2dDims;
using kernels::Pool2dDims;
using kernels::PoolDivisor;
using kernels::PoolRounding;

size_t at(const Pool2dDims& d, int64_t b, int64_t h, int64_t w, int64_t c) {
  return static_cast<size_t>(((b * d.height + h) * d.width + w) * d.channels + c);
}

// Calls visit(output index, b, c, first row, end row, first column, end column) with windows that may leave the image.
template <class F>
void for_windows(const Pool2dDims& d, F&& visit) {
  size_t o = 0;
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t i = 0; i < d.out_height; ++i)
      for (int64_t j = 0; j < d.out_width; ++j)
        for (int64_t c = 0; c < d.channels; ++c) {
          const int64_t h = i * d.stride_height - d.pad_top, w = j * d.stride_width - d.pad_left;
          visit(o++, b, c, h, h + d.kernel_height, w, w + d.kernel_width);
        }
}

Values define_max(const Values& x, const Pool2dDims& d) {
  Values y(static_cast<size_t>(d.batch * d.out_height * d.out_width * d.channels),
           -std::numeric_limits<double>::infinity());
  for_windows(d, [&](size_t o, int64_t b, int64_t c, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
    for (int64_t h = std::max<int64_t>(h0, 0); h < std::min(h1, d.height); ++h)
      for (int64_t w = std::max<int64_t>(w0, 0); w < std::min(w1, d.width); ++w)
        y[o] = std::max(y[o], x[at(d, b, h, w, c)]);
  });
  return y;
}

Values define_average(const Values& x, const Pool2dDims& d, PoolDivisor divisor) {
  Values y(static_cast<size_t>(d.batch * d.out_height * d.out_width * d.channels));
  for_windows(d, [&](size_t o, int64_t b, int64_t c, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
    double sum = 0, count = 0;
    for (int64_t h = h0; h < h1; ++h)
      for (int64_t w = w0; w < w1; ++w) {
        const bool inside = h >= 0 && h < d.height && w >= 0 && w < d.width;
        if (inside) sum += x[at(d, b, h, w, c)];
        if (inside ||
            (divisor == PoolDivisor::with_padding && h < d.height + d.pad_bottom && w < d.width + d.pad_right))
          ++count;
      }
    y[o] = sum / count;
  });
  return y;
}

Values define_adaptive(const Values& x, const AdaptivePool2dDims& d) {
  Values y;
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t i = 0; i < d.out_height; ++i)
      for (int64_t j = 0; j < d.out_width; ++j)
        for (int64_t c = 0; c < d.channels; ++c) {
          const auto begin = [](int64_t o, int64_t extent, int64_t out) { return o * extent / out; };
          const auto end = [](int64_t o, int64_t extent, int64_t out) { return ((o + 1) * extent + out - 1) / out; };
          double sum = 0, count = 0;
          for (int64_t h = begin(i, d.height, d.out_height); h < end(i, d.height, d.out_height); ++h)
            for (int64_t w = begin(j, d.width, d.out_width); w < end(j, d.width, d.out_width); ++w, ++count)
              sum += x[static_cast<size_t>(((b * d.height + h) * d.width + w) * d.channels + c)];
          y.push_back(sum / count);
        }
  return y;
}

// Square kernel and stride, four different pads; the output's extents follow.
Pool2dDims pool(Shape x, int64_t kernel, int64_t stride, int64_t top, int64_t left, int64_t bottom, int64_t right,
                PoolRounding rounding = PoolRounding::floor) {
  Pool2dDims d{x[0], x[1], x[2], x[3], 0, 0, kernel, kernel, stride, stride, top, left, bottom, right};
  d.out_height = kernels::pool2d_output_extent(d.height, kernel, stride, top, bottom, rounding);
  d.out_width = kernels::pool2d_output_extent(d.width, kernel, stride, left, right, rounding);
  return d;
}

Tensor empty_output(const Tensor& x, const Pool2dDims& d) {
  return Tensor::empty({d.batch, d.out_height, d.out_width, d.channels}, x.dtype(), x.device());
}

OpCase base_case(const char* what, const Pool2dDims& d) {
  OpCase op;
  op.name = std::string(what) + " " + std::to_string(d.height) + "x" + std::to_string(d.width) + "x" +
            std::to_string(d.channels) + " kernel " + std::to_string(d.kernel_height);
  op.inputs = {{"x", {d.batch, d.height, d.width, d.channels}}};
  op.terms = op.gradient_terms = static_cast<double>(d.kernel_height * d.kernel_width);
  return op;
}

OpCase max_case(const Pool2dDims& d) {
  OpCase op = base_case("max pool", d);
  op.define = [=](const auto& v) { return define_max(v[0], d); };
  op.run = [=](const auto& t) {
    Tensor y = empty_output(t[0], d);
    const Tensor argmax = Tensor::empty(y.shape(), DType::u8, y.device());
    kernels::max_pool2d_forward(stream(), y.dtype(), t[0].data(), y.data(), argmax.template data_as<uint8_t>(), d);
    record("max_pool2d", {&y}, {&t[0]}, [=](Grads& g) {
      kernels::max_pool2d_backward(stream(), g.out().dtype(), g.out().data(), argmax.template data_as<uint8_t>(),
                                   g.dest(0), d);
    });
    return y;
  };
  return op;
}

OpCase average_case(const Pool2dDims& d, PoolDivisor divisor) {
  OpCase op = base_case("average pool", d);
  op.define = [=](const auto& v) { return define_average(v[0], d, divisor); };
  op.run = [=](const auto& t) {
    Tensor y = empty_output(t[0], d);
    kernels::average_pool2d_forward(stream(), y.dtype(), t[0].data(), y.data(), divisor, d);
    record("average_pool2d", {&y}, {&t[0]}, [=](Grads& g) {
      kernels::average_pool2d_backward(stream(), g.out().dtype(), g.out().data(), g.dest(0), divisor, d);
    });
    return y;
  };
  return op;
}

OpCase adaptive_case(const AdaptivePool2dDims& d) {
  OpCase op;
  op.name = "adaptive pool " + std::to_string(d.height) + "x" + std::to_string(d.width) + " to " +
            std::to_string(d.out_height) + "x" + std::to_string(d.out_width) + "x" + std::to_string(d.channels);
  op.inputs = {{"x", {d.batch, d.height, d.width, d.channels}}};
  op.define = [=](const auto& v) { return define_adaptive(v[0], d); };
  op.run = [=](const auto& t) {
    Tensor y = Tensor::empty({d.batch, d.out_height, d.out_width, d.channels}, t[0].dtype(), t[0].device());
    kernels::adaptive_average_pool2d_forward(stream(), y.dtype(), t[0].data(), y.data(), d);
    record("adaptive_average_pool2d", {&y}, {&t[0]}, [=](Grads& g) {
      kernels::adaptive_average_pool2d_backward(stream(), g.out().dtype(), g.out().data(), g.dest(0), d);
    });
    return y;
  };
  op.terms = op.gradient_terms = static_cast<double>(d.height * d.width);
  return op;
}

}  // namespace

TEST_CASE("max pooling follows its definition") {
  for (const auto& d :
       {pool({1, 1, 1, 1}, 1, 1, 0, 0, 0, 0), pool({2, 5, 7, 3}, 3, 2, 1, 1, 1, 1),
        pool({1, 6, 5, 33}, 3, 2, 0, 1, 2, 0), pool({1, 4, 9, 16}, 2, 2, 0, 0, 0, 0, PoolRounding::ceil),
        pool({2, 20, 21, 64}, 3, 2, 1, 1, 1, 1), pool({0, 4, 4, 3}, 2, 2, 0, 0, 0, 0),
        pool({1, 3, 5, 1032}, 3, 2, 1, 1, 1, 1)}) {
    OpCase op = max_case(d);
    // Differences mean nothing where two values of a window are close: values far apart, and none in bf16, where they
    // tie.
    op.inputs[0].low = -3000;
    op.inputs[0].high = 3000;
    op.dtypes = {DType::f32};
    examine(op);
  }
}

TEST_CASE("max pooling in bf16 picks the values that f32 picks") {
  const Pool2dDims d = pool({2, 9, 9, 24}, 3, 2, 1, 1, 1, 1);
  const Values x = rounded(random_values("pool", 2 * 9 * 9 * 24), DType::bf16);
  for (const Device& device : devices()) {
    Stream stream(device);
    const Tensor in = to_tensor(x, {2, 9, 9, 24}, DType::bf16, device), out = empty_output(in, d);
    kernels::max_pool2d_forward(stream, DType::bf16, in.data(), out.data(), nullptr, d);
    CHECK(to_values(out) == define_max(x, d));
  }
}

TEST_CASE("the first of equal maxima gets the gradient, and NaN wins") {
  const Pool2dDims d = pool({1, 1, 4, 1}, 1, 1, 0, 0, 0, 0);
  Pool2dDims row = d;
  row.kernel_width = 4;
  row.out_width = 1;
  for (const Device& device : devices()) {
    Stream stream(device);
    const Tensor x = to_tensor({2, 5, 5, 1}, {4}, DType::f32, device), y = to_tensor({0}, {1}, DType::f32, device);
    const Tensor dy = to_tensor({7}, {1}, DType::f32, device), dx = empty_like(x);
    const Tensor argmax = Tensor::empty({1}, DType::u8, device);
    auto* const winner = argmax.data_as<uint8_t>();
    kernels::max_pool2d_forward(stream, DType::f32, x.data(), y.data(), winner, row);
    kernels::max_pool2d_backward(stream, DType::f32, dy.data(), winner, {dx.data()}, row);
    CHECK(to_values(y) == Values{5});
    CHECK(to_values(dx) == Values{0, 7, 0, 0});
    const Tensor with_nan = to_tensor({2, 5, NAN, 1}, {4}, DType::f32, device);
    kernels::max_pool2d_forward(stream, DType::f32, with_nan.data(), y.data(), winner, row);
    kernels::max_pool2d_backward(stream, DType::f32, dy.data(), winner, {dx.data()}, row);
    CHECK(std::isnan(to_values(y)[0]));
    CHECK(to_values(dx) == Values{0, 0, 7, 0});
  }
}

TEST_CASE("average pooling follows its definition with both divisors") {
  for (const auto divisor : {PoolDivisor::with_padding, PoolDivisor::without_padding})
    for (const auto& d :
         {pool({1, 1, 1, 1}, 1, 1, 0, 0, 0, 0), pool({2, 5, 7, 3}, 3, 2, 1, 1, 1, 1),
          pool({1, 6, 5, 33}, 3, 2, 0, 1, 2, 0), pool({1, 4, 9, 17}, 2, 2, 0, 0, 0, 0, PoolRounding::ceil),
          pool({1, 7, 7, 8}, 3, 2, 1, 0, 1, 2, PoolRounding::ceil)})
      examine(average_case(d, divisor));
}

TEST_CASE("adaptive average pooling follows its definition, down to the global average") {
  for (const AdaptivePool2dDims& d : {AdaptivePool2dDims{2, 7, 7, 33},
                                      {1, 1, 1, 5},
                                      {2, 5, 8, 6, 3, 3},
                                      {1, 3, 2, 4, 5, 7},
                                      {3, 14, 14, 160},
                                      {40, 7, 7, 80}})
    examine(adaptive_case(d));
}

TEST_CASE("pooled extents are PyTorch's") {
  using kernels::pool2d_output_extent;
  CHECK(pool2d_output_extent(112, 3, 2, 1, 1) == 56);
  CHECK(pool2d_output_extent(7, 2, 2, 0, 0, PoolRounding::ceil) == 4);
  CHECK(pool2d_output_extent(7, 2, 2, 0, 0) == 3);
  // The window that would start in the far padding is dropped.
  CHECK(pool2d_output_extent(4, 2, 3, 1, 1, PoolRounding::ceil) == 2);
  CHECK(pool2d_output_extent(1, 3, 1, 0, 0) == 0);
}
