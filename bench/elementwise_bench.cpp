// Memory-bound operations at the shapes of ViT-B/16 and EfficientNet-B0: the bytes that must move.
#include <string>
#include <utility>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/error.h"
#include "vtl/core/step_state.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/drop_path/drop_path.h"
#include "vtl/kernels/dropout/dropout.h"
#include "vtl/kernels/scale/scale.h"

namespace {

using namespace vtl;
using bench::values;
using kernels::Activation;

// Three activations of [batch, positions, columns], f32 values for each column, and gates.
struct Operands {
  Operands(DType dtype, int64_t batch, int64_t positions, int64_t columns)
      : dtype(dtype),
        batch(batch),
        positions(positions),
        columns(columns),
        x(values({batch, positions, columns}, dtype)),
        y(values(x.shape(), dtype)),
        z(values(x.shape(), dtype)) {}
  int64_t rows() const { return batch * positions; }
  const StepState* state() const { return static_cast<const StepState*>(step.data()); }

  DType dtype;
  int64_t batch, positions, columns;
  Tensor x, y, z;
  Tensor column = values({columns}, DType::f32), sums = values({columns}, DType::f32);
  Tensor gates = values({batch, columns}, dtype), dgates = values({batch, columns}, dtype);
  Tensor step = bench::zeros({sizeof(StepState)}, DType::u8);
};

struct Sizes {
  const char* name;
  int64_t positions, columns;
};
constexpr Sizes kTokens{"vit_b16", 197, 768}, kHidden{"vit_b16_mlp", 197, 3072};
constexpr Sizes kMaps[] = {{"112x32", 112 * 112, 32}, {"28x144", 28 * 28, 144}, {"14x672", 14 * 14, 672}, {"56x24", 56 * 56, 24}};

// `call` moves `passes` times the bytes of an activation.
template <class Call>
void add(const std::string& name, const Sizes& sizes, int passes, Call call) {
  bench::add_for_floats(name + "/" + sizes.name, [=](benchmark::State& state, DType dtype) {
    const Operands o(dtype, bench::images(8), sizes.positions, sizes.columns);
    bench::run(state, [&] { call(o); });
    bench::report_bytes(state, static_cast<double>(o.x.bytes()) * passes);
  });
}

[[maybe_unused]] const int kRegistered = [] {
  for (const auto& [kind, name] : {std::pair{Activation::relu, "relu"},
                                   {Activation::gelu_erf, "gelu_erf"},
                                   {Activation::gelu_tanh, "gelu_tanh"},
                                   {Activation::silu, "silu"}}) {
    add(concat("activation_forward_", name), kHidden, 2, [kind = kind](const Operands& o) {
      kernels::activation_forward(stream(), o.dtype, kind, o.x.data(), nullptr, o.y.data(), {o.rows(), o.columns});
    });
    add(concat("activation_backward_", name), kHidden, 3, [kind = kind](const Operands& o) {
      kernels::activation_backward(stream(), o.dtype, kind, o.x.data(), o.y.data(), nullptr, nullptr, {o.z.data()}, {},
                                   {o.rows(), o.columns});
    });
  }
  add("activation_backward_gelu_erf_with_bias", kHidden, 3, [](const Operands& o) {
    kernels::activation_backward(stream(), o.dtype, Activation::gelu_erf, o.x.data(), o.y.data(), o.column.f32(),
                                 nullptr, {o.z.data()}, {o.sums.f32()}, {o.rows(), o.columns});
  });
  add("add", kTokens, 3, [](const Operands& o) {
    kernels::add_forward(stream(), o.dtype, o.x.data(), o.dtype, o.y.data(), o.z.data(), {1, o.x.numel()});
  });
  add("column_sum", kHidden, 1, [](const Operands& o) {
    kernels::column_sum(stream(), o.dtype, o.x.data(), {o.sums.f32()}, {o.rows(), o.columns});
  });
  add("layer_scale_forward", kTokens, 3, [](const Operands& o) {
    kernels::layer_scale_forward(stream(), o.dtype, o.x.data(), o.column.f32(), o.y.data(), o.z.data(),
                                 {o.rows(), o.columns});
  });
  add("layer_scale_backward", kTokens, 3, [](const Operands& o) {
    kernels::layer_scale_backward(stream(), o.dtype, o.x.data(), o.y.data(), o.column.f32(), {o.z.data()},
                                  {o.sums.f32()}, {o.rows(), o.columns});
  });
  add("dropout_forward", kTokens, 2, [](const Operands& o) {
    kernels::dropout_forward(stream(), o.dtype, o.x.data(), o.y.data(), o.state(), {o.x.numel(), 0.1f, 0});
  });
  add("drop_path_forward", kTokens, 3, [](const Operands& o) {
    kernels::drop_path_forward(stream(), o.dtype, o.x.data(), o.y.data(), o.z.data(), o.state(),
                               {o.batch, o.positions * o.columns, 0.1f, 0});
  });
  for (const Sizes& map : kMaps) {
    add("gate_forward", map, 2, [](const Operands& o) {
      kernels::gate_forward(stream(), o.dtype, o.x.data(), o.gates.data(), o.y.data(),
                            {o.batch, o.positions, o.columns});
    });
    add("gate_backward", map, 3, [](const Operands& o) {
      kernels::gate_backward(stream(), o.dtype, o.x.data(), o.y.data(), o.gates.data(), {o.z.data()},
                             {o.dgates.data()}, {o.batch, o.positions, o.columns});
    });
  }
  return 0;
}();

}  // namespace
