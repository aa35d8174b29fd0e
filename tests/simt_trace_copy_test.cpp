#include "vtl/kernels/copy/copy.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using vtl::test::check_cost;
using vtl::test::Simt;

// Element by element, as whole rows of 16 bytes, and across: everything is read and written once, in whole sectors.
TEST_CASE("trace: strided copies move what they must, also across") {
  Simt simt;
  struct Case {
    const char* what;
    kernels::CopyDims dims;
    double sectors_of_bf16 = 0.9, wavefronts_of_bf16 = 1.1;  // what is odd about them stands at the kernel
  };
  const int64_t rows = 4 * 196, cols = 192, tokens = 197;
  const Case cases[] = {
      {"patches of the tokens", {2, {4, (tokens - 1) * cols}, {tokens * cols, 1}, {(tokens - 1) * cols, 1}}},
      {"heads before tokens",
       {4, {4, 3, tokens, 64}, {tokens * cols, 64, cols, 1}, {tokens * cols, tokens * 64, 64, 1}}},
      {"a matrix transposed", {2, {cols, rows}, {1, cols}, {rows, 1}}},
      {"channels before 14 x 14 positions", {3, {4, cols, 196}, {196 * cols, 1, cols}, {196 * cols, 196, 1}}, 0.8},
      {"channels behind 3 x 3 positions", {3, {64, 9, 128}, {1152, 1, 9}, {1152, 128, 1}}},
      {"three colours apart", {3, {2, 3, 96 * 96}, {27648, 1, 3}, {27648, 9216, 1}}, 0.9, 1.2},
  };
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::i64}) {
      const int64_t size = static_cast<int64_t>(size_of(dtype));
      int64_t count = 1;
      for (int k = 0; k < c.dims.rank; ++k) count *= c.dims.extent[k];
      const Tensor from = simt.zeros(4 * tokens * cols, dtype), to = simt.zeros(4 * tokens * cols, dtype);
      const Tensor addend = simt.zeros(4 * tokens * cols, dtype);
      test::CostLimits limits;
      if (dtype == DType::bf16) limits = {.sectors = c.sectors_of_bf16, .wavefronts = c.wavefronts_of_bf16};
      check_cost(
          c.what, 2 * count * size,
          [&] { kernels::copy_strided(simt.stream(), static_cast<size_t>(size), from.data(), to.data(), c.dims); },
          limits);
      if (dtype == DType::i64) continue;
      check_cost(
          std::string(c.what) + ", added", 3 * count * size,
          [&] {
            kernels::copy_strided_add(simt.stream(), dtype, from.data(), {to.data(), addend.data()}, c.dims);
          },
          limits);
    }
}

TEST_CASE("trace: casts move what they must") {
  Simt simt;
  const int64_t count = 197 * 768;
  const Tensor bytes = simt.zeros(count, DType::u8), wide = simt.zeros(count), narrow = simt.zeros(count, DType::bf16);
  const auto cast = [&](const Tensor& from, const Tensor& to) {
    check_cost("cast", static_cast<int64_t>(from.bytes() + to.bytes()),
               [&] { kernels::cast(simt.stream(), from.dtype(), from.data(), to.dtype(), to.data(), count); });
  };
  cast(wide, narrow);
  cast(narrow, wide);
  cast(bytes, wide);
  cast(bytes, narrow);
}

}  // namespace
