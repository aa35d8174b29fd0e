#include "vtl/layers/interpolate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::Antialias;
using kernels::Interpolation;

double kernel_at(Interpolation filter, double a, double x) {
  x = std::abs(x);
  if (filter == Interpolation::bilinear) return std::max(0.0, 1 - x);
  if (x < 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
  return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

// The matrix [out, in] of one dimension, from sums over all of the line (with antialias) or an endless one whose ends
// repeat.
Values matrix(int64_t in, int64_t out, Interpolation filter, Antialias antialias) {
  Values m(static_cast<size_t>(in * out));
  const double step = static_cast<double>(in) / static_cast<double>(out), a = antialias == Antialias::on ? -0.5 : -0.75;
  const double stretch = antialias == Antialias::on ? std::max(step, 1.0) : 1.0;
  for (int64_t o = 0; o < out; ++o) {
    double total = 0;
    const int64_t margin = antialias == Antialias::on ? 0 : 3;
    for (int64_t i = -margin; i < in + margin; ++i) {
      const double w = kernel_at(filter, a, (i + 0.5 - (o + 0.5) * step) / stretch);
      m[o * in + std::clamp<int64_t>(i, 0, in - 1)] += w;
      total += w;
    }
    for (int64_t i = 0; i < in; ++i) m[o * in + i] /= total;
  }
  return m;
}

struct Setting {
  int64_t outer, height, width, channels, out_height, out_width;
};

OpCase interpolate_case(const Setting& s, Interpolation filter, Antialias antialias) {
  OpCase op;
  op.name = "interpolate " + std::to_string(s.height) + "x" + std::to_string(s.width) + "x" +
            std::to_string(s.channels) + " to " + std::to_string(s.out_height) + "x" + std::to_string(s.out_width);
  op.inputs = {{"x", {s.outer, s.height, s.width, s.channels}}};
  const Values rows = matrix(s.height, s.out_height, filter, antialias),
               cols = matrix(s.width, s.out_width, filter, antialias);
  op.define = [=](const auto& v) {
    Values y;
    for (int64_t b = 0; b < s.outer; ++b)
      for (int64_t i = 0; i < s.out_height; ++i)
        for (int64_t j = 0; j < s.out_width; ++j)
          for (int64_t c = 0; c < s.channels; ++c) {
            double sum = 0;
            for (int64_t h = 0; h < s.height; ++h)
              for (int64_t w = 0; w < s.width; ++w)
                sum += rows[i * s.height + h] * cols[j * s.width + w] *
                       v[0][static_cast<size_t>(((b * s.height + h) * s.width + w) * s.channels + c)];
            y.push_back(sum);
          }
    return y;
  };
  op.run = [=](const auto& t) { return layers::interpolate(t[0], s.out_height, s.out_width, filter, antialias); };
  op.terms = op.gradient_terms = 16;
  return op;
}

}  // namespace

TEST_CASE("interpolation and its gradient follow their definition") {
  for (const auto filter : {Interpolation::bilinear, Interpolation::bicubic})
    for (const auto antialias : {Antialias::off, Antialias::on})
      for (const Setting& s : {Setting{1, 1, 1, 1, 3, 2}, {2, 5, 4, 3, 5, 4}, {1, 3, 7, 16, 8, 3}, {2, 9, 8, 2, 4, 11}})
        examine(interpolate_case(s, filter, antialias));
}

TEST_CASE("position embeddings of a real size resample in more than one chunk") {
  OpCase op = interpolate_case({1, 14, 14, 192, 16, 12}, Interpolation::bicubic, Antialias::on);
  op.dtypes = {DType::f32};
  examine(op);
}

TEST_CASE("interpolation computes what PyTorch computes") {
  std::ifstream file(std::filesystem::path(VTL_SOURCE_DIR) / "tests" / "golden" / "interpolate.json");
  const auto golden = nlohmann::json::parse(file);
  const auto channels = golden["channels"].get<int64_t>();
  REQUIRE(golden["cases"].size() >= 10);
  for (const auto& [name, c] : golden["cases"].items()) {
    CAPTURE(name);
    const kernels::InterpolateDims dims{1,           c["in"][0],  c["in"][1],   channels,
                                        c["out"][0], c["out"][1], c["step"][0], c["step"][1]};
    const Values x = c["x"], expected = c["y"];
    for (const Device& device : devices()) {
      INFO(to_string(device));
      Stream stream(device);
      const Tensor from = to_tensor(x, {static_cast<int64_t>(x.size())}, DType::f32, device);
      const Tensor y = Tensor::empty({static_cast<int64_t>(expected.size())}, DType::f32, device);
      kernels::interpolate_forward(stream, DType::f32, from.data(), y.data(),
                                   c["bicubic"] ? Interpolation::bicubic : Interpolation::bilinear,
                                   c["antialias"] ? Antialias::on : Antialias::off, dims);
      // Two sums of at most 16 terms, whose weights are rounded too.
      CHECK(max_difference(to_values(y), expected) <= 2 * 0x1p-23 * std::sqrt(16.0) * max_abs(expected));
    }
  }
}
