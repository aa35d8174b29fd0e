// Attention at the shapes of vision models, as one call of a batch: TFLOP/s of the two (forward) and five (backward)
// products.
#include "vtl/kernels/attention/attention.h"

#include <cmath>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/error.h"

namespace {

using namespace vtl;
using kernels::AttentionDims;
using kernels::HeadDest;
using kernels::HeadStrides;
using kernels::HeadView;

// Packed qkv [batch, tokens, 3, heads, head_dim] with small fixed values.
struct Problem {
  AttentionDims dims;
  DType dtype;
  HeadStrides packed, dense;
  Tensor qkv, out, dout, dqkv, lse;

  Problem(DType dtype, int64_t batch, int64_t heads, int64_t tokens, int64_t head_dim)
      : dims{batch, heads, tokens, tokens, head_dim, 1 / std::sqrt(static_cast<float>(head_dim))},
        dtype(dtype),
        packed{tokens * 3 * heads * head_dim, head_dim, 3 * heads * head_dim},
        dense(HeadStrides::token_major(tokens, heads, head_dim)),
        qkv(bench::values({batch, tokens, 3 * heads * head_dim}, dtype)),
        out(bench::values({batch, tokens, heads * head_dim}, dtype)),
        dout(bench::values(out.shape(), dtype)),
        dqkv(bench::values(qkv.shape(), dtype)),
        lse(bench::zeros({batch, heads, tokens}, DType::f32)) {}

  void* part(const Tensor& t, int64_t which) const {
    return static_cast<char*>(t.data()) + static_cast<size_t>(which * dims.heads * dims.head_dim) * size_of(dtype);
  }
  HeadView view(int64_t which) const { return {part(qkv, which), packed}; }
  HeadDest gradient(int64_t which) const { return {{part(dqkv, which)}, packed}; }

  void forward() const {
    kernels::attention_forward(stream(), dtype, view(0), view(1), view(2), {}, {}, out.data(), dense, lse.f32(), dims);
  }
  void backward() const {
    kernels::attention_backward(stream(), dtype, {dout.data(), dense}, view(0), view(1), view(2), {out.data(), dense},
                                lse.f32(), {}, {}, gradient(0), gradient(1), gradient(2), {}, dims);
  }
  // q, k, v and out once; backward also dout and the gradients of q, k and v.
  double bytes(bool backward) const {
    return static_cast<double>(backward ? qkv.bytes() + dqkv.bytes() + 2 * out.bytes() : qkv.bytes() + out.bytes());
  }
  double product_flops() const {
    return 2.0 * static_cast<double>(dims.batch * dims.heads * dims.q_len * dims.k_len * dims.head_dim);
  }
};

struct Sizes {
  const char* name;
  int64_t batch, heads, tokens, head_dim;
};
constexpr Sizes kSizes[] = {{"vit_b16", 8, 12, 197, 64},
                            {"dinov2_b14_518", 1, 12, 1370, 64},
                            {"vit_h14", 2, 16, 257, 80},
                            {"swin_t_stage1", 64, 3, 49, 32}};

[[maybe_unused]] const int kRegistered = [] {
  for (const Sizes& s : kSizes)
    for (const bool backward : {false, true})
      bench::add_for_floats(concat("attention_", backward ? "backward/" : "forward/", s.name),
                            [=](benchmark::State& state, DType dtype) {
                              const Problem problem(dtype, bench::images(s.batch), s.heads, s.tokens, s.head_dim);
                              problem.forward();
                              bench::run(state, [&] { backward ? problem.backward() : problem.forward(); });
                              bench::report_bytes(state, problem.bytes(backward));
                              state.counters["TFLOP/s"] =
                                  benchmark::Counter((backward ? 5 : 2) * problem.product_flops() * 1e-12,
                                                     benchmark::Counter::kIsIterationInvariantRate);
                            });
  return 0;
}();

}  // namespace
