// Matrix products at the shapes of a ViT's linear layers (images of 197 tokens) and of LoRA: forward with bias, the
// data gradient and the weight gradient.
#include "vtl/kernels/gemm/gemm.h"

#include <string>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;
using kernels::Epilogue;
using kernels::Transpose;

// y [rows, out] = x [rows, in] w^T + bias.
struct Linear {
  int64_t rows, in, out;
  DType dtype;
  Tensor x, w, y, dw, bias, saved;

  Linear(int64_t rows, int64_t in, int64_t out, DType dtype)
      : rows(rows),
        in(in),
        out(out),
        dtype(dtype),
        x(bench::values({rows, in}, dtype)),
        w(bench::values({out, in}, dtype)),
        y(bench::values({rows, out}, dtype)),
        dw(bench::values({out, in}, DType::f32)),
        bias(bench::values({out}, DType::f32)),
        saved(bench::values({rows, out}, dtype)) {}

  void forward(Epilogue epilogue) const {
    epilogue.bias = bias.f32();
    kernels::gemm(stream(), {x.data(), dtype, in}, {w.data(), dtype, in, Transpose::yes}, {y.data(), dtype, out},
                  {rows, out, in}, 1, epilogue);
  }
  void forward_gelu() const {
    Epilogue epilogue;
    epilogue.activation = kernels::Activation::gelu_erf;
    epilogue.preactivation = saved.data();
    forward(epilogue);
  }
  void backward_data() const {
    kernels::gemm(stream(), {y.data(), dtype, out}, {w.data(), dtype, in}, {x.data(), dtype, in}, {rows, in, out});
  }
  void backward_weight() const {
    kernels::gemm(stream(), {y.data(), dtype, out, Transpose::yes}, {x.data(), dtype, in}, {dw.data(), DType::f32, in},
                  {out, in, rows});
  }
  double flops() const { return 2.0 * static_cast<double>(rows * in * out); }
};

struct Sizes {
  const char* name;
  int64_t in, out;
};
constexpr Sizes kSizes[] = {{"vit_s16_qkv", 384, 1152}, {"vit_s16_fc1", 384, 1536},    {"vit_s16_fc2", 1536, 384},
                            {"vit_b16_qkv", 768, 2304}, {"vit_b16_fc1", 768, 3072}, {"vit_b16_fc2", 3072, 768}, {"vit_s16_lora_down", 384, 8}, {"vit_s16_lora_up", 8, 384}};

[[maybe_unused]] const int kRegistered = [] {
  for (const Sizes& s : kSizes) {
    const auto add = [&](const char* pass, const std::function<void(const Linear&)>& call) {
      bench::add_for_floats(std::string("gemm_") + pass + "/" + s.name, [=](benchmark::State& state, DType dtype) {
        const Linear linear(bench::images(16) * 197, s.in, s.out, dtype);
        bench::run(state, [&] { call(linear); });
        bench::report_flops(state, linear.flops(), dtype);
      });
    };
    add("forward", [](const Linear& linear) { linear.forward({}); });
    add("forward_gelu_saved", [](const Linear& linear) { linear.forward_gelu(); });
    add("backward_data", [](const Linear& linear) { linear.backward_data(); });
    add("backward_weight", [](const Linear& linear) { linear.backward_weight(); });
  }
  return 0;
}();

}  // namespace
