#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/kernels/low_rank/low_rank.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using test::Values;

// left^T right with left [rows, a] and right [rows, b].
Values transposed_product(const Values& left, int64_t stride, const Values& right, int64_t rows, int64_t a, int64_t b) {
  Values sum(static_cast<size_t>(a * b));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < a; ++i)
      for (int64_t j = 0; j < b; ++j) sum[i * b + j] += left[r * stride + i] * right[r * b + j];
  return sum;
}

struct Case {
  int64_t rows, in, out, rank, extra = 0;
  bool da = true, db = true, add = false;
};

void check(const Case& t, DType dtype) {
  CAPTURE(t.rows);
  CAPTURE(t.rank);
  CAPTURE(name(dtype));
  const int64_t stride = t.out + t.extra;
  const double scale = 0.5;
  const auto random = [&](const char* what, int64_t count) {
    return test::rounded(test::random_values(what, count), dtype);
  };
  const Values dy = random("dy", t.rows * stride), x = random("x", t.rows * t.in), u = random("u", t.rows * t.rank),
               b = random("b", t.out * t.rank);
  const Values before_a = test::random_values("da", t.rank * t.in),
               before_b = test::random_values("db", t.out * t.rank);
  Values du(static_cast<size_t>(t.rows * t.rank));
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t k = 0; k < t.rank; ++k) {
      double sum = 0;
      for (int64_t c = 0; c < t.out; ++c) sum += dy[r * stride + c] * b[c * t.rank + k];
      du[r * t.rank + k] = scale * sum;
    }
  Values da = transposed_product(test::rounded(du, dtype), t.rank, x, t.rows, t.rank, t.in);
  Values db = transposed_product(dy, stride, u, t.rows, t.out, t.rank);
  if (t.add) {
    for (size_t i = 0; i < da.size(); ++i) da[i] += before_a[i];
    for (size_t i = 0; i < db.size(); ++i) db[i] += before_b[i];
  }

  for (const Device device : test::devices()) {
    CAPTURE(to_string(device));
    Stream stream(device);
    const StreamScope scope(stream);
    const auto to_device = [&](const Values& values, DType type) {
      return test::to_tensor(values, {static_cast<int64_t>(values.size())}, type, device);
    };
    const Tensor tdy = to_device(dy, dtype), tx = to_device(x, dtype), tu = to_device(u, dtype),
                 tb = to_device(b, dtype), tdu = empty_like(tu);
    const Tensor tda = to_device(before_a, DType::f32), tdb = to_device(before_b, DType::f32);
    const auto dest = [&](bool wanted, const Tensor& to) {
      return Dest{wanted ? to.data() : nullptr, wanted && t.add ? to.data() : nullptr};
    };
    kernels::low_rank_backward(stream, dtype, {t.rows, t.in, t.out, t.rank, stride}, tdy.data(), tx.data(), tu.data(),
                               tb.data(), scale, tdu.data(), dest(t.da, tda), dest(t.db, tdb));
    // Sums of products of 1.5^2 in f32, as random walks. du may be rounded the other way, each by an ulp.
    const double ulp = dtype == DType::bf16 ? 0x1p-8 : 0x1p-23, eps = 8 * 0x1p-23 * 2.25;
    const double du_size = test::max_abs(du), rows = std::sqrt(double(t.rows));
    CHECK(test::max_difference(test::to_values(tdu), du) <= ulp * du_size + eps * std::sqrt(double(t.out)));
    if (t.da)
      CHECK(test::max_difference(test::to_values(tda), da) <=
            (eps * (1 + du_size) + 1.5 * ulp * du_size) * rows + 1e-5);
    if (t.db) CHECK(test::max_difference(test::to_values(tdb), db) <= eps * rows + 1e-5);
  }
}

}  // namespace

TEST_CASE("gradients of a low-rank member match their definition") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rank : {1, 4, 8, 20}) {
      check({70, 24, 40, rank}, dtype);
      check({33, 17, 9, rank, 3, true, true, true}, dtype);
      check({33, 17, 9, rank, 0, true, false}, dtype);
      check({33, 17, 9, rank, 0, false, true}, dtype);
    }
}

// On a GPU these rows are enough for a pass of its own.
TEST_CASE("gradients of a low-rank member over many rows match their definition") {
  check({8500, 72, 104, 8}, DType::bf16);
  check({8448, 40, 67, 16, 5, true, true, true}, DType::bf16);
  check({8450, 64, 64, 8, 0, true, false}, DType::bf16);
  check({8450, 64, 64, 8, 64, false, true}, DType::bf16);
}
