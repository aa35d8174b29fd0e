#include "vtl/kernels/reduce/reduce.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/context.h"
#include "vtl/core/tape.h"
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

template <class T>
std::vector<int32_t> argmax_of(const std::vector<T>& x, ReduceDims d) {
  Stream stream(Device::cpu());
  std::vector<int32_t> index(static_cast<size_t>(d.outer * d.inner), -1);
  kernels::argmax(stream, dtype_of<T>::value, x.data(), index.data(), d);
  return index;
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
  Stream stream(Device::cpu());
  for (const ReduceDims& d : {ReduceDims{1, 1, 1}, {3, 77, 1}, {2, 13, 21}, {1, 90000, 1}}) {
    const int64_t count = d.outer * d.count * d.inner;
    const Values values = random_values("max", count);
    const Tensor x = to_tensor(values, {count}, DType::bf16),
                 y = Tensor::empty({d.outer, d.inner}, DType::f32, Device::cpu());
    kernels::reduce_forward(stream, DType::bf16, x.data(), DType::f32, y.data(), Reduction::max, d);
    CHECK(to_values(y) == define(rounded(values, DType::bf16), d, Reduction::max));
    if (d.count == 1) continue;
    for (const int64_t at : {int64_t{0}, d.count * d.inner - 1}) {
      x.data_as<bf16>()[at] = bf16(NAN);
      kernels::reduce_forward(stream, DType::bf16, x.data(), DType::f32, y.data(), Reduction::max, d);
      CHECK(std::isnan(y.f32()[at % d.inner]));
    }
  }
}

TEST_CASE("reductions of nothing are 0, NaN and minus infinity") {
  Stream stream(Device::cpu());
  std::vector<float> y(3);
  const auto reduced = [&](Reduction reduction) {
    kernels::reduce_forward(stream, DType::f32, nullptr, DType::f32, y.data(), reduction, {1, 0, 3});
    return y[2];
  };
  CHECK(reduced(Reduction::sum) == 0);
  CHECK(std::isnan(reduced(Reduction::mean)));
  CHECK(reduced(Reduction::max) == -std::numeric_limits<float>::infinity());
}

TEST_CASE("argmax names the first of equals and takes NaN for the largest") {
  CHECK(argmax_of<float>({1, 3, 3, 0, -1, -7, -1, -2}, {2, 4, 1}) == std::vector<int32_t>{1, 0});
  CHECK(argmax_of<float>({1, 9, 3, 9, 2, 2}, {1, 3, 2}) == std::vector<int32_t>{1, 0});
  CHECK(argmax_of<float>({1, NAN, 5, NAN}, {1, 4, 1}) == std::vector<int32_t>{1});
  CHECK(argmax_of<bf16>({bf16(-2.0f), bf16(-1.0f)}, {1, 2, 1}) == std::vector<int32_t>{1});
}
