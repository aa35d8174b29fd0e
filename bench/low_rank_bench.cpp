// A frozen linear layer with a LoRA of rank 8, at the shapes of a ViT (images of 197 tokens): its flops are those of
// the frozen layer, gemm_forward and gemm_backward_data of the same name.
#include "vtl/kernels/low_rank/low_rank.h"

#include <string>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/kernels/gemm/gemm.h"

namespace {

using namespace vtl;
using kernels::Transpose;

constexpr int64_t kRank = 8;

struct LoraLinear {
  int64_t rows, in, out;
  DType dtype;
  Tensor x, w, y, a, b, u, du, da, db;

  LoraLinear(int64_t rows, int64_t in, int64_t out, DType dtype)
      : rows(rows),
        in(in),
        out(out),
        dtype(dtype),
        x(bench::values({rows, in}, dtype)),
        w(bench::values({out, in}, dtype)),
        y(bench::values({rows, out}, dtype)),
        a(bench::values({kRank, in}, dtype)),
        b(bench::values({out, kRank}, dtype)),
        u(bench::values({rows, kRank}, dtype)),
        du(bench::values({rows, kRank}, dtype)),
        da(bench::values({kRank, in}, DType::f32)),
        db(bench::values({out, kRank}, DType::f32)) {}

  kernels::Matrix matrix(const Tensor& t, int64_t stride, Transpose transpose = Transpose::no) const {
    return {t.data(), dtype, stride, transpose};
  }
  void forward() const {
    kernels::gemm(stream(), matrix(x, in), matrix(a, in, Transpose::yes), {u.data(), dtype, kRank}, {rows, kRank, in},
                  0.5f);
    kernels::gemm(stream(), matrix(x, in), matrix(w, in, Transpose::yes), {y.data(), dtype, out}, {rows, out, in}, 1,
                  {}, nullptr, {matrix(u, kRank), matrix(b, kRank, Transpose::yes), kRank});
  }
  void gradients() const {
    kernels::low_rank_backward(stream(), dtype, {rows, in, out, kRank, out}, y.data(), x.data(), u.data(), b.data(),
                               0.5f, du.data(), {da.data()}, {db.data()});
  }
  void backward() const {
    gradients();
    kernels::gemm(stream(), matrix(y, out), matrix(w, in), {x.data(), dtype, in}, {rows, in, out}, 1, {}, nullptr,
                  {matrix(du, kRank), matrix(a, in), kRank});
  }
  double flops() const { return 2.0 * static_cast<double>(rows * in * out); }
};

struct Sizes {
  const char* name;
  int64_t in, out;
};
constexpr Sizes kSizes[] = {
    {"vit_b16_qkv", 768, 2304}, {"vit_b16_proj", 768, 768}, {"vit_b16_fc1", 768, 3072}, {"vit_b16_fc2", 3072, 768}};

[[maybe_unused]] const int kRegistered = [] {
  for (const Sizes& s : kSizes) {
    const auto add = [&](const char* pass, const std::function<void(const LoraLinear&)>& call) {
      bench::add_for_floats(std::string("lora_") + pass + "/" + s.name, [=](benchmark::State& state, DType dtype) {
        const LoraLinear linear(bench::images(16) * 197, s.in, s.out, dtype);
        bench::run(state, [&] { call(linear); });
        bench::report_flops(state, linear.flops(), dtype);
      });
    };
    add("forward", [](const LoraLinear& linear) { linear.forward(); });
    add("backward", [](const LoraLinear& linear) { linear.backward(); });
    bench::add_for_floats(std::string("lora_gradients/") + s.name, [=](benchmark::State& state, DType dtype) {
      const LoraLinear linear(bench::images(16) * 197, s.in, s.out, dtype);
      bench::run(state, [&] { linear.gradients(); });
      bench::report_bytes(state, static_cast<double>(linear.x.bytes() + linear.y.bytes()));
    });
  }
  return 0;
}();

}  // namespace
