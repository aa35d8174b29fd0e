#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/kernels/gemm/activate_rows.h"
#include "vtl/kernels/gemm/gemm.h"
#include "vtl/tests/harness/activation_value.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

using namespace vtl;
using namespace vtl::kernels;
using test::activation_value;
using test::Values;

namespace {

struct Case {
  int64_t m, n, k;
  Transpose a = Transpose::no, b = Transpose::no;
  int64_t batch = 1;
  bool shared_b = false;
  int64_t extra = 0;  // elements between rows
  double alpha = 1;
  bool scale = false, bias = false, residual = false, in_place = false, preactivation = false;
  Activation activation = Activation::none;
  bool packed = false;
  int64_t slice = 0;  // of k, from other memory
};

std::string to_string(const Case& t, DType in, DType out) {
  return concat(t.m, " x ", t.n, " x ", t.k, " batch ", t.batch, " transposes ", int(t.a), int(t.b), " ", name(in),
                " -> ", name(out), " activation ", int(t.activation), t.residual ? " residual" : "",
                t.in_place ? " in place" : "", t.preactivation ? " preactivation" : "", t.scale ? " scale" : "",
                t.packed ? " packed" : "", " slice ", t.slice);
}

// One product against its definition, on every device. What lies between the rows of C must stay as it was.
void check_product(const Case& t, DType in, DType out) {
  CAPTURE(to_string(t, in, out));
  const bool at = t.a == Transpose::yes, bt = t.b == Transpose::yes;
  const int64_t a_stride = (at ? t.m : t.k) + t.extra, b_stride = (bt ? t.k : t.n) + t.extra, c_stride = t.n + t.extra;
  const int64_t a_size = (at ? t.k : t.m) * a_stride, b_size = (bt ? t.n : t.k) * b_stride, c_size = t.m * c_stride;
  const int64_t b_count = t.shared_b ? 1 : t.batch;
  const Values a = test::rounded(test::random_values("a", t.batch * a_size), in);
  const Values b = test::rounded(test::random_values("b", b_count * b_size), in);
  const int64_t a2_stride = (at ? t.m : t.slice) + t.extra, b2_stride = (bt ? t.slice : t.n) + t.extra;
  const Values a2 = test::rounded(test::random_values("a2", (at ? t.slice : t.m) * a2_stride), in);
  const Values b2 = test::rounded(test::random_values("b2", (bt ? t.n : t.slice) * b2_stride), in);
  const Values scale = test::rounded(test::random_values("scale", t.n, 0.5, 1.5), DType::f32);
  const Values bias = test::rounded(test::random_values("bias", t.n), DType::f32);
  const Values residual = test::rounded(test::random_values("residual", t.batch * c_size), out);

  Values expected = residual, expected_before = residual;  // the gaps too: what was there before
  for (int64_t s = 0; s < t.batch; ++s)
    for (int64_t i = 0; i < t.m; ++i)
      for (int64_t j = 0; j < t.n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < t.k; ++k)
          sum += a[s * a_size + (at ? k * a_stride + i : i * a_stride + k)] *
                 b[(t.shared_b ? 0 : s * b_size) + (bt ? j * b_stride + k : k * b_stride + j)];
        for (int64_t k = 0; k < t.slice; ++k)
          sum += a2[at ? k * a2_stride + i : i * a2_stride + k] * b2[bt ? j * b2_stride + k : k * b2_stride + j];
        const int64_t at_c = s * c_size + i * c_stride + j;
        sum *= t.alpha;
        if (t.scale) sum *= scale[j];
        if (t.bias) sum += bias[j];
        if (t.residual) sum += residual[at_c];
        expected_before[at_c] = sum;
        expected[at_c] = activation_value(t.activation, sum);
      }

  // f32: rounding of k products of size 1.5^2 each, as a random walk. bf16: what the naive computation loses when it
  // rounds the sum and the result (half an ulp, 2^-9, each), doubled.
  const double magnitude = std::max(test::max_abs(expected_before), test::max_abs(expected));
  const double sums = 8 * std::numeric_limits<float>::epsilon() * std::sqrt(double(t.k + t.slice) + 1) * 2.25 *
                      std::max(1.0, std::fabs(t.alpha)) * 1.5;
  const double activations = 1e-6 * magnitude;
  const double tolerance = sums + activations + (out == DType::bf16 ? 0x1p-7 * magnitude : 0);

  for (const Device device : test::devices()) {
    CAPTURE(to_string(device));
    Stream stream(device);
    const StreamScope scope(stream);
    const auto to_device = [&](const Values& values, DType dtype) {
      return test::to_tensor(values, {static_cast<int64_t>(values.size())}, dtype, device);
    };
    const Tensor ta = to_device(a, in), tb = to_device(b, in), t_residual = to_device(residual, out);
    const Tensor ta2 = to_device(a2, in), tb2 = to_device(b2, in);
    const Tensor t_scale = to_device(scale, DType::f32), t_bias = to_device(bias, DType::f32);
    const Tensor c = to_device(residual, out), before = to_device(residual, out);
    Epilogue epilogue;
    if (t.scale) epilogue.scale = t_scale.f32();
    if (t.bias) epilogue.bias = t_bias.f32();
    if (t.residual) epilogue.residual = t.in_place ? c.data() : t_residual.data();
    if (t.preactivation) epilogue.preactivation = before.data();
    epilogue.activation = t.activation;
    const Matrix ma{ta.data(), in, a_stride, t.a, a_size}, mb{tb.data(), in, b_stride, t.b, t.shared_b ? 0 : b_size};
    const GemmDims dims{t.m, t.n, t.k, t.batch};
    const PackedWeightPtr packed = t.packed ? gemm_pack(stream, mb, dims) : nullptr;
    gemm(stream, ma, mb, {c.data(), out, c_stride, c_size}, dims, static_cast<float>(t.alpha), epilogue, packed.get(),
         {{ta2.data(), in, a2_stride, t.a}, {tb2.data(), in, b2_stride, t.b}, t.slice});
    CHECK(test::max_difference(test::to_values(c), expected) <= tolerance);
    if (t.preactivation) CHECK(test::max_difference(test::to_values(before), expected_before) <= tolerance);
  }
}

void check_dtypes(const Case& t) {
  check_product(t, DType::f32, DType::f32);
  check_product(t, DType::bf16, DType::bf16);
  check_product(t, DType::bf16, DType::f32);
}

}  // namespace

TEST_CASE("a matrix product matches its definition for every transposition and awkward size") {
  const int64_t sizes[][3] = {{1, 1, 1},    {1, 33, 31},   {33, 1, 7},  {31, 33, 1},
                              {5, 17, 300}, {130, 70, 65}, {14, 32, 16}};
  for (const auto& [m, n, k] : sizes)
    for (const auto a : {Transpose::no, Transpose::yes})
      for (const auto b : {Transpose::no, Transpose::yes}) {
        Case t{m, n, k};
        t.a = a;
        t.b = b;
        check_dtypes(t);
        t.extra = 3;
        check_dtypes(t);
      }
}

TEST_CASE("a product over nothing is the epilogue of zero") {
  Case t{5, 9, 0};
  t.bias = true;
  t.activation = Activation::sigmoid;
  check_dtypes(t);
}

TEST_CASE("a product without rows or columns writes nothing") {
  check_dtypes({0, 5, 3});
  check_dtypes({5, 0, 3});
}

TEST_CASE("every epilogue of a matrix product matches its definition") {
  for (const auto activation :
       {Activation::none, Activation::relu, Activation::relu6, Activation::silu, Activation::gelu_erf,
        Activation::gelu_tanh, Activation::gelu_quick, Activation::sigmoid})
    for (int mask = 0; mask < 32; ++mask) {
      // All combinations with one activation; the others with the bias alone, saved, and with everything.
      if (activation != Activation::gelu_erf && mask != 2 && mask != 10 && mask != 15) continue;
      Case t{19, 37, 24};
      t.b = Transpose::yes;
      t.activation = activation;
      t.scale = mask & 1;
      t.bias = mask & 2;
      t.residual = mask & 4;
      t.preactivation = mask & 8;
      t.in_place = t.residual && (mask & 16);
      if ((mask & 16) && !t.residual) t.alpha = -0.5;
      check_dtypes(t);
    }
}

TEST_CASE("batches of products match their definition") {
  for (const bool shared : {false, true})
    for (const auto a : {Transpose::no, Transpose::yes})
      for (const auto b : {Transpose::no, Transpose::yes}) {
        Case t{17, 20, 33};
        t.a = a;
        t.b = b;
        t.batch = 5;
        t.shared_b = shared;
        t.bias = true;
        t.residual = true;
        t.activation = Activation::relu;
        check_dtypes(t);
        t.extra = 5;
        t.preactivation = true;
        check_dtypes(t);
      }
}

TEST_CASE("a packed weight gives the same products, also for another number of rows") {
  for (const auto transpose : {Transpose::no, Transpose::yes}) {
    Case t{65, 96, 64};
    t.b = transpose;
    t.bias = true;
    t.packed = true;
    check_dtypes(t);
    t.residual = t.preactivation = true;
    t.activation = Activation::gelu_erf;
    check_dtypes(t);
  }
  Stream stream(Device::cpu());
  const Values w = test::random_values("w", 96 * 64), x = test::random_values("x", 7 * 64);
  const Tensor tw = test::to_tensor(w, {96, 64}, DType::f32), tx = test::to_tensor(x, {7, 64}, DType::f32);
  const Matrix weight{tw.data(), DType::f32, 64, Transpose::yes};
  const PackedWeightPtr packed = gemm_pack(stream, weight, {500, 96, 64});
  const Tensor plain = Tensor::empty({7, 96}, DType::f32, Device::cpu()), from_packed = empty_like(plain);
  gemm(stream, {tx.data(), DType::f32, 64}, weight, {plain.data(), DType::f32, 96}, {7, 96, 64});
  gemm(stream, {tx.data(), DType::f32, 64}, weight, {from_packed.data(), DType::f32, 96}, {7, 96, 64}, 1, {},
       packed.get());
  CHECK(test::max_difference(test::to_values(plain), test::to_values(from_packed)) <= 1e-4);
}

TEST_CASE("a slice of other memory is summed with the rest") {
  for (const auto a : {Transpose::no, Transpose::yes})
    for (const auto b : {Transpose::no, Transpose::yes})
      for (const int64_t rank : {1, 4, 8, 70}) {
        Case t{33, 40, 100};
        t.a = a;
        t.b = b;
        t.slice = rank;
        t.alpha = 0.5;
        check_dtypes(t);
        t.scale = t.bias = t.residual = t.preactivation = true;
        t.activation = Activation::silu;
        t.extra = 1;
        check_dtypes(t);
      }
}

// What decides on a GPU how a product is cut.
TEST_CASE("products of few rows or columns, or a long k, match their definition") {
  const auto check_transposed = [](Case t) {
    for (const auto transpose : {Transpose::no, Transpose::yes}) {
      t.a = transpose;
      t.b = transpose == Transpose::no ? Transpose::yes : Transpose::no;
      check_dtypes(t);
    }
  };
  Case t{300, 24, 500};
  t.residual = true;
  check_transposed(t);
  check_transposed({9, 516, 1300});
  t = {70, 66, 1700};
  t.bias = t.residual = t.in_place = true;
  t.activation = Activation::relu;
  check_transposed(t);
}

TEST_CASE("real products of a ViT match their definition") {
  Case t{394, 384, 192};
  t.b = Transpose::yes;
  t.bias = true;
  check_dtypes(t);
  t = {192, 96, 394};
  t.a = Transpose::yes;
  t.residual = t.in_place = true;  // a weight gradient that adds to what is there
  check_dtypes(t);
}

TEST_CASE("a product of dtypes that no kernel has is refused") {
  Stream stream(Device::cpu());
  float value[4] = {};
  CHECK_THROWS_AS(gemm(stream, {value, DType::f32, 1}, {value, DType::bf16, 1}, {value, DType::f32, 1}, {1, 1, 1}),
                  Error);
  CHECK_THROWS_AS(gemm(stream, {value, DType::f32, 1}, {value, DType::f32, 1}, {value, DType::bf16, 1}, {1, 1, 1}),
                  Error);
}

TEST_CASE("an activation of rows leaves what lies between them") {
  for (const Device device : test::devices())
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const auto& [rows, cols, stride] : {std::array<int64_t, 3>{7, 16, 16}, {5, 24, 32}, {3, 9, 10}, {0, 4, 4}}) {
        CAPTURE(to_string(device));
        CAPTURE(cols);
        Stream stream(device);
        const StreamScope scope(stream);
        const Values x = test::rounded(test::random_values("x", rows * stride), dtype);
        Values expected = x;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < cols; ++c)
            expected[r * stride + c] = activation_value(Activation::silu, x[r * stride + c]);
        const Tensor y = test::to_tensor(x, {rows * stride}, dtype, device);
        activate_rows(stream, Activation::silu, dtype, y.data(), y.data(), rows, cols, stride);
        CHECK(test::max_difference(test::to_values(y), expected) <= (dtype == DType::bf16 ? 0x1p-8 : 0x1p-20));
      }
}
