#include "vtl/layers/layernorm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

// y[r,c] = (x[r,c] - mean[r]) / sqrt(var[r] + eps) * weight[c] + bias[c]
Values define(const std::vector<Values>& in, int64_t rows, int64_t cols, double eps) {
  Values y(in[0].size());
  for (int64_t r = 0; r < rows; ++r) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < cols; ++c) mean += in[0][r * cols + c] / cols;
    for (int64_t c = 0; c < cols; ++c) variance += std::pow(in[0][r * cols + c] - mean, 2) / cols;
    for (int64_t c = 0; c < cols; ++c)
      y[r * cols + c] = (in[0][r * cols + c] - mean) / std::sqrt(variance + eps) * in[1][c] + in[2][c];
  }
  return y;
}

OpCase layernorm_case(int64_t rows, int64_t cols) {
  const float eps = 1e-3f;  // large enough that a row of one or two values stays well conditioned
  OpCase op;
  op.name = "layernorm " + std::to_string(rows) + "x" + std::to_string(cols);
  op.inputs = {{"x", {rows, cols}}, {"weight", {cols}, Kind::parameter}, {"bias", {cols}, Kind::parameter}};
  op.define = [=](const auto& in) { return define(in, rows, cols, eps); };
  op.run = [=](const auto& in) { return layers::layernorm(in[0], in[1], in[2], eps); };
  op.terms = static_cast<double>(cols);
  op.gradient_terms = static_cast<double>(rows + cols);
  op.ulps = 8;
  return op;
}

}  // namespace

TEST_CASE("layernorm follows its definition") {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {0, 5}, {3, 31}, {2, 33}, {70, 6}, {197, 192}})
    examine(layernorm_case(rows, cols));
}
