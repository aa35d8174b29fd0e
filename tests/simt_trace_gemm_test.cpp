// Races and costs of the kernels of gemm on the emulated device.
#include "vtl/core/error.h"
#include "vtl/kernels/gemm/activate_rows.h"
#include "vtl/kernels/gemm/gemm.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using namespace vtl::kernels;
using test::check_cost;
using test::CostLimits;
using test::Simt;

struct Product {
  const char* what;
  GemmDims dims;
  Transpose a = Transpose::no, b = Transpose::no;
  bool fused = false;    // bias, residual, activation, preactivation
  int64_t partials = 0;  // of C's size: the splits of k
};

int64_t bytes_of(DType dtype, int64_t count) { return static_cast<int64_t>(size_of(dtype)) * count; }

void check_product(const Product& t, DType in, DType out) {
  Simt simt;
  const GemmDims& d = t.dims;
  const Tensor a = simt.zeros(d.batch * d.m * d.k, in), b = simt.zeros(d.batch * d.k * d.n, in);
  const Tensor c = simt.zeros(d.batch * d.m * d.n, out), residual = empty_like(c), before = empty_like(c);
  const Tensor bias = simt.zeros(d.n);
  Epilogue epilogue;
  if (t.fused)
    epilogue = {.bias = bias.f32(),
                .residual = residual.data(),
                .activation = Activation::relu,
                .preactivation = before.data()};
  const Matrix ma{a.data(), in, t.a == Transpose::yes ? d.m : d.k, t.a, d.m * d.k};
  const Matrix mb{b.data(), in, t.b == Transpose::yes ? d.k : d.n, t.b, d.k * d.n};
  int64_t least = bytes_of(in, a.numel() + b.numel()) + bytes_of(out, c.numel());
  if (t.fused) least += bytes_of(out, 2 * c.numel()) + bytes_of(DType::f32, d.n);
  least += bytes_of(DType::f32, 2 * t.partials * c.numel());
  check_cost(concat(t.what, " ", name(in), " -> ", name(out)), least, [&] {
    gemm(simt.stream(), ma, mb, {c.data(), out, d.n, d.m * d.n}, d, 1, epilogue);
  });
}

void check_dtypes(const Product& t) {
  check_product(t, DType::f32, DType::f32);
  check_product(t, DType::bf16, DType::bf16);
  check_product(t, DType::bf16, DType::f32);
}

}  // namespace

TEST_CASE("trace: gemm reads its operands once, in whole sectors and without bank conflicts") {
  for (const auto a : {Transpose::no, Transpose::yes})
    for (const auto b : {Transpose::no, Transpose::yes}) {
      check_dtypes({"small tiles", {128, 64, 96}, a, b, true});
      check_dtypes({"tall tiles", {256, 16, 96}, a, b});
      check_dtypes({"wide tiles", {16, 256, 96}, a, b});
    }
}
