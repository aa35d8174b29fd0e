#include "vtl/kernels/reduce/reduce.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/context.h"
#include "vtl/core/tape.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::ReduceDims;
using kernels::Reduction;

Values define(const Values& x, const ReduceDims& d, Reduction reduction) {
  Values y;
  for (int64_t o = 0; o < d.outer; ++o)
    for (int64_t i = 0; i < d.inner; ++i) {
      double value = reduction == Reduction::max ? -std::numeric_limits<double>::infinity() : 0;
      for (int64_t n = 0; n < d.count; ++n) {
        const double term = x[static_cast<size_t>((o * d.count + n) * d.inner + i)];
        value = reduction == Reduction::max ? std::max(value, term) : value + term;
      }
      y.push_back(reduction == Reduction::mean ? value / static_cast<double>(d.count) : value);
    }
  return y;
}

OpCase reduce_case(const ReduceDims& d, Reduction reduction) {
  OpCase op;
  op.name = "reduce " + std::to_string(d.outer) + "x" + std::to_string(d.count) + "x" + std::to_string(d.inner);
  op.inputs = {{"x", {d.outer, d.count, d.inner}}};
  op.define = [=](const auto& v) { return define(v[0], d, reduction); };
  op.run = [=](const auto& t) {
    Tensor y = Tensor::empty({d.outer, d.inner}, t[0].dtype(), t[0].device());
    kernels::reduce_forward(stream(), y.dtype(), t[0].data(), y.dtype(), y.data(), reduction, d);
    record("reduce", {&y}, {&t[0]}, [=](Grads& g) {
      kernels::reduce_backward(stream(), g.out().dtype(), g.out().data(), g.out().dtype(), g.dest(0), reduction, d);
    });
    return y;
  };
  op.terms = static_cast<double>(d.count);
  return op;
}

std::vector<int32_t> argmax_of(const Values& x, ReduceDims d, DType dtype, Device device) {
  Stream stream(device);
  const StreamScope scope(stream);
  const Tensor values = to_tensor(x, {static_cast<int64_t>(x.size())}, dtype, device);
  const Tensor index = Tensor::empty({d.outer, d.inner}, DType::i32, device);
  kernels::argmax(stream, dtype, values.data(), static_cast<int32_t*>(index.data()), d);
  std::vector<int32_t> found(static_cast<size_t>(d.outer * d.inner));
  index.copy_to_host(std::as_writable_bytes(std::span(found)));
  return found;
}

}  // namespace

TEST_CASE("sums and means over any dimension follow their definition") {
  for (const auto reduction : {Reduction::sum, Reduction::mean})
    for (const ReduceDims& d : {ReduceDims{1, 1, 1},
                                {3, 31, 1},
                                {1, 33, 5},
                                {2, 7, 19},
                                {5, 1, 33},
                                {0, 4, 3},
                                {1, 100000, 1},
                                {2, 1100, 70},
                                {300, 9, 12}})
      examine(reduce_case(d, reduction));
}

TEST_CASE("the maximum is the largest value, and NaN where there is one") {
  for (const Device& device : devices())
    for (const ReduceDims& d : {ReduceDims{1, 1, 1}, {3, 77, 1}, {2, 13, 21}, {1, 90000, 1}, {2, 600, 40}}) {
      CAPTURE(to_string(device));
      Stream stream(device);
      const StreamScope scope(stream);
      const int64_t count = d.outer * d.count * d.inner;
      const auto maximum = [&](const Values& values) {
        const Tensor x = to_tensor(values, {count}, DType::bf16, device);
        const Tensor y = Tensor::empty({d.outer, d.inner}, DType::f32, device);
        kernels::reduce_forward(stream, DType::bf16, x.data(), DType::f32, y.data(), Reduction::max, d);
        return to_values(y);
      };
      Values values = rounded(random_values("max", count), DType::bf16);
      CHECK(maximum(values) == define(values, d, Reduction::max));
      if (d.count == 1) continue;
      for (const int64_t at : {int64_t{0}, d.count * d.inner - 1}) {
        values[static_cast<size_t>(at)] = NAN;
        CHECK(std::isnan(maximum(values)[static_cast<size_t>(at % d.inner)]));
      }
    }
}

TEST_CASE("reductions of nothing are 0, NaN and minus infinity") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    const Tensor y = Tensor::empty({3}, DType::f32, device);
    const auto reduced = [&](Reduction reduction) {
      kernels::reduce_forward(stream, DType::f32, nullptr, DType::f32, y.data(), reduction, {1, 0, 3});
      return to_values(y)[2];
    };
    CHECK(reduced(Reduction::sum) == 0);
    CHECK(std::isnan(reduced(Reduction::mean)));
    CHECK(reduced(Reduction::max) == -std::numeric_limits<double>::infinity());
  }
}

TEST_CASE("argmax names the first of equals and takes NaN for the largest") {
  for (const Device& device : devices()) {
    CAPTURE(to_string(device));
    const auto index = [&](const Values& x, ReduceDims d, DType dtype = DType::f32) {
      return argmax_of(x, d, dtype, device);
    };
    CHECK(index({1, 3, 3, 0, -1, -7, -1, -2}, {2, 4, 1}) == std::vector<int32_t>{1, 0});
    CHECK(index({1, 9, 3, 9, 2, 2}, {1, 3, 2}) == std::vector<int32_t>{1, 0});
    CHECK(index({1, NAN, 5, NAN}, {1, 4, 1}) == std::vector<int32_t>{1});
    CHECK(index({-2, -1}, {1, 2, 1}, DType::bf16) == std::vector<int32_t>{1});
    CHECK(index(Values(100, -INFINITY), {1, 100, 1}) == std::vector<int32_t>{0});
    // 999 values, the largest of them in two places of each row.
    Values x = random_values("argmax", 3 * 333);
    for (const size_t row : {0, 1, 2}) x[row * 333 + 77 * row + 40] = x[row * 333 + 300] = 2;
    CHECK(index(x, {3, 333, 1}) == std::vector<int32_t>{40, 117, 194});
  }
}
