#include "vtl/layers/linear.h"

#include <span>

#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/gemm/gemm.h"
#include "vtl/kernels/low_rank/low_rank.h"

namespace vtl::layers {
namespace {

using kernels::Activation;
using kernels::Matrix;
using kernels::MatrixOut;
using kernels::Transpose;

// An adapter as its tensors, for one call.
struct Adapter {
  Tensor a, b;
  int64_t row_begin;
  float scale;
};

struct Packed {
  kernels::PackedWeightPtr forward, backward;
};

Matrix matrix(const Tensor& t, int64_t stride, Transpose transpose = Transpose::no) { return {t.data(), t.dtype(), stride, transpose}; }

const void* offset(const void* data, DType dtype, int64_t elements) {
  return data ? static_cast<const char*>(data) + elements * static_cast<int64_t>(size_of(dtype)) : nullptr;
}

Tensor run(const Tensor& x, const Tensor& weight, const Tensor& bias, std::span<const Adapter> adapters, const Tensor& residual,
           Activation activation, const Packed& packed) {
  const int64_t in = weight.dim(1), out = weight.dim(0);
  VTL_CHECK(x.rank() >= 1 && x.dim(-1) == in, "linear: the input has shape ", x.shape(), ", the weight expects ", in, " columns");
  VTL_CHECK(weight.dtype() == x.dtype(), "linear: the input holds ", name(x.dtype()), ", the weight ", name(weight.dtype()));
  VTL_CHECK(!bias.defined() || bias.numel() == out, "linear: the bias has ", bias.defined() ? bias.numel() : 0, " values, expected ", out);
  const int64_t rows = x.numel() / std::max<int64_t>(in, 1);
  const Shape shape = x.shape().with(-1, out);
  VTL_CHECK(!residual.defined() || (residual.shape() == shape && residual.dtype() == x.dtype()), "linear: the residual has shape ",
            residual.defined() ? residual.shape() : Shape{}, ", expected ", shape);

  bool learning = learns(x, weight, bias, residual);
  for (const auto& adapter : adapters) learning |= learns(adapter.a, adapter.b);
  const bool fuse_activation = !learning && adapters.empty();

  // One adapter of the whole layer goes along with the products of the weight; others are added to what these wrote.
  const bool goes_along = adapters.size() == 1 && adapters[0].b.dim(0) == out;
  std::vector<Tensor> inner;  // scale * x A^T of each adapter
  for (const auto& adapter : adapters) {
    const int64_t rank = adapter.a.dim(0);
    Tensor u = Tensor::empty({rows, rank}, x.dtype(), x.device());
    kernels::gemm(stream(), matrix(x, in), matrix(adapter.a, in, Transpose::yes), {u.data(), u.dtype(), rank}, {rows, rank, in},
                  adapter.scale);
    inner.push_back(std::move(u));
  }
  kernels::GemmSlice slice;
  if (goes_along) {
    const int64_t rank = adapters[0].a.dim(0);
    slice = {matrix(inner[0], rank), matrix(adapters[0].b, rank, Transpose::yes), rank};
  }
  // With something to learn the value before the activation is needed, so the activation is a pass of its own.
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  kernels::gemm(stream(), matrix(x, in), matrix(weight, in, Transpose::yes), {y.data(), y.dtype(), out}, {rows, out, in}, 1,
                {.bias = bias.defined() ? bias.f32() : nullptr,
                 .residual = residual.data(),
                 .activation = fuse_activation ? activation : Activation::none},
                packed.forward.get(), slice);
  for (size_t i = 0; i < adapters.size() && !goes_along; ++i) {
    const auto& adapter = adapters[i];
    const int64_t rank = adapter.a.dim(0), part = adapter.b.dim(0);
    void* target = const_cast<void*>(offset(y.data(), y.dtype(), adapter.row_begin));
    kernels::gemm(stream(), matrix(inner[i], rank), matrix(adapter.b, rank, Transpose::yes), {target, y.dtype(), out},
                  {rows, part, rank}, 1, {.residual = target});
  }
  const kernels::ActivationDims flat{rows, out};
  Tensor before;  // the activation's input
  if (activation != Activation::none && !fuse_activation) {
    before = y;
    y = learning ? empty_like(before) : before;
    kernels::activation_forward(stream(), y.dtype(), activation, before.data(), nullptr, y.data(), flat);
  }
  if (!learning) return y;

  // Only the gradients of weights read the input again.
  const bool needs_input = learns(weight) || !adapters.empty();
  const auto backward = [x = needs_input ? x.value() : Tensor(), dtype = x.dtype(), weight = weight.value(), adapters = std::vector<Adapter>(adapters.begin(), adapters.end()),
                         inner, before, activation, packed, rows, in, out, flat](Grads& g) {
    Tensor dy = g.out();
    Dest dbias = g.dest(2);
    if (activation != Activation::none) {
      Tensor through = empty_like(before);
      kernels::activation_backward(stream(), dy.dtype(), activation, dy.data(), before.data(), nullptr, nullptr,
                                   {through.data(), nullptr}, dbias, flat);
      dbias = {};
      dy = through;
    }
    if (dbias.wanted()) kernels::column_sum(stream(), dy.dtype(), dy.data(), dbias, {rows, out});
    if (!g.pass(3, dy)) {
      const Dest dresidual = g.dest(3);
      kernels::activation_backward(stream(), dy.dtype(), Activation::none, dy.data(), nullptr, nullptr, dy.data(), dresidual, {}, flat);
    }
    if (const Dest dweight = g.dest(1); dweight.wanted())
      kernels::gemm(stream(), matrix(dy, out, Transpose::yes), matrix(x, in), {dweight.out, DType::f32, in}, {out, in, rows}, 1,
                    {.residual = dweight.addend});
    const Dest dx = g.dest(0);
    std::vector<Tensor> dinner;  // scale * dy B of each adapter
    for (size_t i = 0; i < adapters.size(); ++i) {
      const auto& adapter = adapters[i];
      const int64_t rank = adapter.a.dim(0), part = adapter.b.dim(0);
      const int index = 4 + 2 * static_cast<int>(i);
      const Dest da = g.dest(index), db = g.dest(index + 1);
      const Tensor du = da.wanted() || dx.wanted() ? empty_like(inner[i]) : Tensor();
      kernels::low_rank_backward(stream(), dy.dtype(), {rows, in, part, rank, out}, offset(dy.data(), dy.dtype(), adapter.row_begin),
                                 x.data(), inner[i].data(), adapter.b.data(), adapter.scale, du.data(), da, db);
      dinner.push_back(du);
    }
    if (!dx.wanted()) return;
    const auto product_with_a = [&](size_t i) -> kernels::GemmSlice {
      const int64_t rank = adapters[i].a.dim(0);
      return {matrix(dinner[i], rank), matrix(adapters[i].a, in), rank};
    };
    const MatrixOut to_dx{dx.out, dtype, in};
    kernels::gemm(stream(), matrix(dy, out), matrix(weight, in), to_dx, {rows, in, out}, 1, {.residual = dx.addend},
                  packed.backward.get(), adapters.empty() ? kernels::GemmSlice{} : product_with_a(0));
    for (size_t i = 1; i < adapters.size(); ++i) {
      const auto [du, a, rank] = product_with_a(i);
      kernels::gemm(stream(), du, a, to_dx, {rows, in, rank}, 1, {.residual = dx.out});
    }
  };
  std::vector<const Tensor*> inputs{&x, &weight, &bias, &residual};
  for (const auto& adapter : adapters) inputs.insert(inputs.end(), {&adapter.a, &adapter.b});
  record("linear", {&y}, inputs, backward);
  return y;
}

}  // namespace

void LowRank::visit(Visitor& v) {
  const std::string prefix = part.empty() ? "" : part + ".";
  v(prefix + "lora_A.weight", a);
  v(prefix + "lora_B.weight", b);
}

Linear::Linear(int64_t in, int64_t out, Bias with_bias) : weight({out, in}, Role::matrix) {
  if (with_bias == Bias::yes) bias = Parameter({out}, Role::vector);
}

void Linear::visit(Visitor& v) {
  v("weight", weight);
  v("bias", bias);
  for (auto& adapter : low_rank) v("", adapter);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual, Activation activation) {
  return run(x, weight, bias, {}, residual, activation, {});
}

Tensor linear(const Tensor& x, const Linear& layer, const Tensor& residual, Activation activation) {
  const Tensor& weight = layer.weight.value();
  Packed packed;
  if (!layer.weight.learns()) {
    const int64_t in = layer.in(), out = layer.out(), rows = x.numel() / std::max<int64_t>(in, 1);
    packed.forward = layer.weight.packed_forward().get<kernels::PackedWeight>(layer.weight.version(), [&] {
      return kernels::gemm_pack(stream(), matrix(weight, in, Transpose::yes), {rows, out, in});
    });
    if (learns(x))
      packed.backward = layer.weight.packed_backward().get<kernels::PackedWeight>(layer.weight.version(), [&] {
        return kernels::gemm_pack(stream(), matrix(weight, in), {rows, in, out});
      });
  }
  std::vector<Adapter> adapters;
  for (const auto& low_rank : layer.low_rank)
    adapters.push_back({low_rank.a.value(), low_rank.b.value(), low_rank.row_begin, low_rank.scale});
  return run(x, weight, layer.bias.value(), adapters, residual, activation, packed);
}

}  // namespace vtl::layers
