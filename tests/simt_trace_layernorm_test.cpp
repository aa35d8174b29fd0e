#include "vtl/kernels/layernorm/layernorm.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using vtl::test::check_cost;
using vtl::test::Simt;

TEST_CASE("trace: layernorm has no races") {
  Simt simt;
  for (const int64_t cols : {33, 192, 768, 1280}) {
    const int64_t rows = 150;
    const Tensor x = simt.zeros(rows * cols), y = simt.zeros(rows * cols), weight = simt.zeros(cols),
                 mean = simt.zeros(rows), rstd = simt.zeros(rows), dbias = simt.zeros(cols);
    const emulator::Trace trace;
    kernels::layernorm_forward(simt.stream(), DType::f32, x.data(), weight.f32(), weight.f32(), y.data(), mean.f32(),
                               rstd.f32(), {rows, cols, 1e-6f});
    kernels::layernorm_backward(simt.stream(), DType::f32, y.data(), x.data(), weight.f32(), mean.f32(), rstd.f32(),
                                {y.data()}, {weight.data()}, {dbias.data()}, {rows, cols, 1e-6f});
    for (const auto& race : trace.races()) FAIL_CHECK(race);
  }
}

TEST_CASE("trace: layernorm moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = static_cast<int64_t>(size_of(dtype)), rows = 197 * 64, cols = 768, all = rows * cols;
    const kernels::LayerNormDims dims{rows, cols, 1e-6f};
    const Tensor x = simt.zeros(all, dtype), y = simt.zeros(all, dtype), dy = simt.zeros(all, dtype),
                 weight = simt.zeros(cols), bias = simt.zeros(cols), mean = simt.zeros(rows), rstd = simt.zeros(rows);
    const test::CostLimits limits{.races = emulator::Races::ignore};
    check_cost(
        "layernorm_forward", 2 * all * size + 2 * cols * 4 + 2 * rows * 4,
        [&] {
          kernels::layernorm_forward(simt.stream(), dtype, x.data(), weight.f32(), bias.f32(), y.data(), mean.f32(),
                                     rstd.f32(), dims);
        },
        limits);
    check_cost(
        "layernorm_backward", 3 * all * size + 3 * cols * 4 + 2 * rows * 4,
        [&] {
          kernels::layernorm_backward(simt.stream(), dtype, dy.data(), x.data(), weight.f32(), mean.f32(), rstd.f32(),
                                      {y.data()}, {weight.data()}, {bias.data()}, dims);
        },
        limits);
  }
}

}  // namespace
