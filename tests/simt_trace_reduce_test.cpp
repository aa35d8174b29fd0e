#include "vtl/kernels/reduce/reduce.h"
#include "vtl/kernels/tokens/tokens.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using vtl::test::check_cost;
using vtl::test::Simt;

int64_t bytes_of(DType dtype) { return static_cast<int64_t>(size_of(dtype)); }

TEST_CASE("trace: reductions have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const kernels::ReduceDims& d :
         {kernels::ReduceDims{1, 300000, 1}, {256, 1000, 1}, {1, 6272, 96}, {8, 49, 768}}) {
      const int64_t size = bytes_of(dtype), all = d.outer * d.count * d.inner, results = d.outer * d.inner;
      const Tensor x = simt.zeros(all, dtype), y = simt.zeros(results), dy = simt.zeros(results, dtype);
      const Tensor index = simt.zeros(results, DType::i32);
      for (const auto reduction : {kernels::Reduction::mean, kernels::Reduction::max})
        check_cost("reduce", all * size + results * 4, [&] {
          kernels::reduce_forward(simt.stream(), dtype, x.data(), DType::f32, y.data(), reduction, d);
        });
      check_cost("reduce backward", all * size + results * size, [&] {
        kernels::reduce_backward(simt.stream(), dtype, dy.data(), dtype, {x.data()}, kernels::Reduction::sum, d);
      });
      if (all > 256000) continue;  // few rows of an argmax are long
      check_cost("argmax", all * size + results * 4,
                 [&] { kernels::argmax(simt.stream(), dtype, x.data(), static_cast<int32_t*>(index.data()), d); });
    }
}

TEST_CASE("trace: tokens have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = bytes_of(dtype), batch = 6, patches = 196, dim = 192, tokens = patches + 1;
    const int64_t all = batch * tokens * dim;
    const Tensor x = simt.zeros(batch * patches * dim, dtype), y = simt.zeros(all, dtype), dy = simt.zeros(all, dtype);
    const Tensor token = simt.zeros(dim), positions = simt.zeros(tokens * dim), pooled = simt.zeros(batch * dim, dtype);
    kernels::PrefixTokens prefix;
    prefix.data[0] = token.f32();
    prefix.count[0] = 1;
    const kernels::TokensDims dims{batch, patches, dim, tokens};
    check_cost("insert_tokens", 2 * all * size + tokens * dim * 4, [&] {
      kernels::insert_tokens_forward(simt.stream(), dtype, x.data(), prefix, positions.f32(), y.data(), dims);
    });
    kernels::InsertTokensGrads grads;
    grads.dprefix[0] = {token.data()};
    grads.dpositions = {positions.data()};
    check_cost("insert_tokens, gradients of parameters", all * size + tokens * dim * 4, [&] {
      kernels::insert_tokens_backward(simt.stream(), dtype, dy.data(), {1, 0, 0}, grads, dims);
    });
    check_cost("insert_tokens, gradient of the patches", 2 * batch * patches * dim * size, [&] {
      kernels::insert_tokens_backward(simt.stream(), dtype, dy.data(), {1, 0, 0}, {{x.data()}, {}, {}}, dims);
    });
    for (const int64_t begin : {0, 1}) {
      const kernels::PoolTokensDims pool{batch, tokens, dim, begin, begin == 0 ? 1 : tokens};
      const int64_t range = batch * (pool.end - pool.begin) * dim * size, result = batch * dim * size;
      check_cost("pool_tokens", range + result,
                 [&] { kernels::pool_tokens_forward(simt.stream(), dtype, y.data(), pooled.data(), pool); });
      check_cost("pool_tokens backward", all * size + result,
                 [&] { kernels::pool_tokens_backward(simt.stream(), dtype, pooled.data(), {dy.data()}, pool); });
      check_cost("pool_tokens backward, added", 2 * range + result, [&] {
        kernels::pool_tokens_backward(simt.stream(), dtype, pooled.data(), {dy.data(), dy.data()}, pool);
      });
    }
  }
}

}  // namespace
