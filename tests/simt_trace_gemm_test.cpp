// Races and costs of the kernels of gemm on the emulated device.
#include "vtl/core/error.h"
#include "vtl/kernels/device/matrix.h"
#include "vtl/kernels/gemm/activate_rows.h"
#include "vtl/kernels/gemm/gemm.h"
#include "vtl/kernels/low_rank/low_rank.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using namespace vtl::kernels;
using namespace vtl::kernels::simt;
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
    kernels::gemm(simt.stream(), ma, mb, {c.data(), out, d.n, d.m * d.n}, d, 1, epilogue);
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

TEST_CASE("trace: large tiles, too") {
  const auto check_tiles = []<class T, Major A, Major B>() {
    Simt simt;
    const DType dtype = dtype_of<T>::value;
    const int size = 256, depth = 128;
    const Tensor a = simt.zeros(size * depth, dtype), b = simt.zeros(size * depth, dtype),
                 c = simt.zeros(size * size, dtype);
    const auto source = [&]<Major M>(const Tensor& x) {
      return MatrixSource<T, M>{{static_cast<const T*>(x.data()), M == Major::k ? depth : size, depth}, size};
    };
    const EpilogueOut out{{}, c.data(), dtype, 1, size, size};
    check_cost("large tiles", static_cast<int64_t>(a.bytes() + b.bytes() + c.bytes()), [&] {
      tile_detail::launch_tiles<BigTile<T>>(simt.stream(), "product", source.template operator()<A>(a),
                                            source.template operator()<B>(b), out, {size, size, depth}, 1);
    });
  };
  check_tiles.operator()<bf16, Major::k, Major::k>();
  check_tiles.operator()<bf16, Major::line, Major::line>();
  check_tiles.operator()<float, Major::k, Major::line>();
}

TEST_CASE("trace: gemm with a long k writes and reads its partial sums beside that") {
  check_product({"split k", {64, 96, 2048}, Transpose::yes, Transpose::no, true, 8}, DType::bf16, DType::f32);
  check_product({"split k", {64, 96, 2048}, Transpose::yes, Transpose::no, true, 16}, DType::f32, DType::f32);
}

TEST_CASE("trace: gemm reads a slice of k where it lies") {
  Simt simt;
  const Tensor x = simt.zeros(256 * 192, DType::bf16), w = simt.zeros(96 * 192, DType::bf16),
               u = simt.zeros(256 * 8, DType::bf16), b = simt.zeros(96 * 8, DType::bf16),
               y = simt.zeros(256 * 96, DType::bf16);
  const auto bytes = static_cast<int64_t>(x.bytes() + w.bytes() + u.bytes() + b.bytes() + y.bytes());
  check_cost("slice", bytes, [&] {
    kernels::gemm(simt.stream(), {x.data(), DType::bf16, 192}, {w.data(), DType::bf16, 192, Transpose::yes},
                  {y.data(), DType::bf16, 96}, {256, 96, 192}, 1, {}, nullptr,
                  {{u.data(), DType::bf16, 8}, {b.data(), DType::bf16, 8, Transpose::yes}, 8});
  });
}

TEST_CASE("trace: the gradients of a low-rank member read dy and x once") {
  Simt simt;
  const int64_t rows = 8448, in = 64, out = 128, rank = 8, blocks = rows / 128;
  const Tensor dy = simt.zeros(rows * out, DType::bf16), x = simt.zeros(rows * in, DType::bf16),
               u = simt.zeros(rows * rank, DType::bf16), b = simt.zeros(out * rank, DType::bf16), du = empty_like(u),
               da = simt.zeros(rank * in), db = simt.zeros(out * rank);
  const auto sums = static_cast<int64_t>(da.bytes() + db.bytes());
  const auto least = static_cast<int64_t>(dy.bytes() + x.bytes() + u.bytes() + b.bytes() + du.bytes()) + sums;
  check_cost("low rank", least + 2 * blocks * sums, [&] {
    kernels::low_rank_backward(simt.stream(), DType::bf16, {rows, in, out, rank, out}, dy.data(), x.data(), u.data(),
                               b.data(), 0.5f, du.data(), {da.data()}, {db.data()});
  });
}
