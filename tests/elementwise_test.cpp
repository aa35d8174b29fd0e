#include "vtl/layers/elementwise.h"

#include <doctest/doctest.h>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/scale/scale.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

size_t at(int64_t i) { return static_cast<size_t>(i); }

}  // namespace

TEST_CASE("add is the sum, and both operands get the gradient") {
  for (const Shape& shape : {Shape{1}, Shape{0}, Shape{31}, Shape{3, 33}, Shape{2, 197, 96}}) {
    OpCase op;
    op.name = "add " + to_string(shape);
    op.inputs = {{"a", shape}, {"b", shape}};
    op.define = [](const auto& in) {
      Values y = in[0];
      for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i];
      return y;
    };
    op.run = [](const auto& in) { return layers::add(in[0], in[1]); };
    examine(op);
  }
}

TEST_CASE("something that repeats is added to every repetition and gets the sum of the gradients") {
  for (const bool parameter : {false, true})
    for (const auto& [repeats, count] : {std::pair<int64_t, int64_t>{1, 1}, {2, 31}, {5, 33}, {0, 4}, {9, 2500}}) {
      OpCase op;
      op.name = concat(parameter ? "add parameter " : "add activation ", repeats, "x", count);
      op.inputs = {{"a", {repeats, count}}, {"b", {count}, parameter ? Kind::parameter : Kind::activation}};
      op.define = [count = count](const auto& in) {
        Values y = in[0];
        for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % at(count)];
        return y;
      };
      op.run = [dims = kernels::AddDims{repeats, count}](const auto& in) {
        Tensor y = empty_like(in[0]);
        const DType b_dtype = in[1].dtype();
        kernels::add_forward(stream(), y.dtype(), in[0].data(), b_dtype, in[1].data(), y.data(), dims);
        record("add", {&y}, {&in[0], &in[1]}, [=](Grads& g) {
          const Tensor dy = g.out();
          const Dest da = g.dest(0), db = g.dest(1);
          kernels::add_backward(stream(), dy.dtype(), dy.data(), da, b_dtype, db, dims);
        });
        return y;
      };
      op.gradient_terms = static_cast<double>(repeats) + 1;
      examine(op);
    }
}

TEST_CASE("scale multiplies by a constant") {
  for (const int64_t count : {0, 1, 31, 1000}) {
    OpCase op;
    op.name = concat("scale ", count);
    op.inputs = {{"x", {count}}};
    op.define = [](const auto& in) {
      Values y = in[0];
      for (auto& v : y) v *= -0.625;
      return y;
    };
    op.run = [](const auto& in) { return layers::scale(in[0], -0.625f); };
    examine(op);
  }
}

TEST_CASE("layer_scale multiplies channels and adds the residual") {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {3, 31}, {0, 5}, {131, 24}, {200, 192}}) {
    OpCase op;
    op.name = concat("layer_scale ", rows, "x", cols);
    op.inputs = {{"x", {rows, cols}}, {"gamma", {cols}, Kind::parameter}, {"residual", {rows, cols}}};
    op.define = [cols = cols](const auto& in) {
      Values y = in[2];
      for (size_t i = 0; i < y.size(); ++i) y[i] += in[0][i] * in[1][i % at(cols)];
      return y;
    };
    op.run = [](const auto& in) { return layers::layer_scale(in[0], in[1], in[2]); };
    op.gradient_terms = static_cast<double>(rows) + 1;
    examine(op);
  }
}

TEST_CASE("gate multiplies each channel of each sample") {
  for (const auto& [batch, side, channels] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {2, 3, 31}, {3, 2, 33}, {2, 7, 600}}) {
    OpCase op;
    op.name = concat("gate ", batch, "x", side, "x", channels);
    op.inputs = {{"x", {batch, side, side, channels}}, {"gate", {batch, channels}, Kind::activation, 0, 1}};
    const int64_t image = side * side * channels;
    op.define = [=, channels = channels](const auto& in) {
      Values y = in[0];
      for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i)
        y[at(i)] *= in[1][at(i / image * channels + i % channels)];
      return y;
    };
    op.run = [](const auto& in) { return layers::gate(in[0], in[1]); };
    op.gradient_terms = static_cast<double>(side * side) + 1;
    examine(op);
  }
}

TEST_CASE("a bias is added to every row and gets the column sums") {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {3, 31}, {0, 5}, {4, 33}, {5000, 24}}) {
    OpCase op;
    op.name = concat("bias ", rows, "x", cols);
    op.inputs = {{"x", {rows, cols}}, {"bias", {cols}, Kind::parameter}};
    op.define = [cols = cols](const auto& in) {
      Values y = in[0];
      for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % at(cols)];
      return y;
    };
    op.run = [dims = kernels::BiasDims{rows, cols}](const auto& in) {
      Tensor y = empty_like(in[0]);
      kernels::bias_forward(stream(), y.dtype(), in[0].data(), in[1].f32(), y.data(), dims);
      record("bias", {&y}, {&in[0], &in[1]}, [=](Grads& g) {
        const Tensor dy = g.out();
        kernels::column_sum(stream(), dy.dtype(), dy.data(), g.dest(1), dims);
        kernels::scale_backward(stream(), dy.dtype(), dy.data(), 1.0f, g.dest(0), dims.rows * dims.cols);
      });
      return y;
    };
    op.gradient_terms = static_cast<double>(rows) + 1;
    examine(op);
  }
}
