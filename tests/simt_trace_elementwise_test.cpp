#include "vtl/core/step_state.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/drop_path/drop_path.h"
#include "vtl/kernels/dropout/dropout.h"
#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"
#include "vtl/kernels/scale/scale.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using vtl::test::check_cost;
using vtl::test::Simt;

int64_t bytes_of(DType dtype) { return static_cast<int64_t>(size_of(dtype)); }

TEST_CASE("trace: add has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const DType b_dtype : {DType::f32, DType::bf16})
      for (const kernels::AddDims dims : {kernels::AddDims{1, 197 * 192 * 2}, kernels::AddDims{4, 197 * 192}}) {
        const int64_t size = bytes_of(dtype), b_bytes = dims.count * bytes_of(b_dtype), all = dims.repeats * dims.count;
        const Tensor a = simt.zeros(all, dtype), b = simt.zeros(dims.count, b_dtype), y = simt.zeros(all, dtype);
        check_cost("add_forward", 2 * all * size + b_bytes,
                   [&] { kernels::add_forward(simt.stream(), dtype, a.data(), b_dtype, b.data(), y.data(), dims); });
        check_cost("add_backward", 4 * all * size + b_bytes, [&] {  // dy for each of the two gradients
          kernels::add_backward(simt.stream(), dtype, a.data(), {y.data(), y.data()}, b_dtype, {b.data()}, dims);
        });
      }
}

TEST_CASE("trace: bias and column sums have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t rows = 8 * 28 * 28, cols = 96, all = rows * cols;
    const Tensor x = simt.zeros(all, dtype), y = simt.zeros(all, dtype), bias = simt.zeros(cols);
    check_cost("bias", 3 * all * bytes_of(dtype) + 3 * cols * 4, [&] {
      kernels::bias_forward(simt.stream(), dtype, x.data(), bias.f32(), y.data(), {rows, cols});
      kernels::column_sum(simt.stream(), dtype, y.data(), {bias.data(), bias.data()}, {rows, cols});
    });
  }
}

TEST_CASE("trace: scale, layer_scale and gate have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = bytes_of(dtype), batch = 4, positions = 28 * 28, cols = 96;
    const int64_t rows = batch * positions, all = rows * cols;
    const Tensor x = simt.zeros(all, dtype), dy = simt.zeros(all, dtype), y = simt.zeros(all, dtype);
    const Tensor gamma = simt.zeros(cols), dgamma = simt.zeros(cols);
    const Tensor gate = simt.zeros(batch * cols, dtype), dgate = simt.zeros(batch * cols, dtype);
    check_cost("scale", 3 * all * size, [&] {
      kernels::scale_backward(simt.stream(), dtype, dy.data(), 2, {y.data(), x.data()}, all);
    });
    check_cost("layer_scale forward", 3 * all * size + cols * 4, [&] {
      kernels::layer_scale_forward(simt.stream(), dtype, x.data(), gamma.f32(), dy.data(), y.data(), {rows, cols});
    });
    check_cost("layer_scale backward", 3 * all * size + 2 * cols * 4, [&] {
      kernels::layer_scale_backward(simt.stream(), dtype, dy.data(), x.data(), gamma.f32(), {y.data()}, {dgamma.data()},
                                    {rows, cols});
    });
    const kernels::GateDims dims{batch, positions, cols};
    check_cost("gate forward", 2 * all * size + batch * cols * size,
               [&] { kernels::gate_forward(simt.stream(), dtype, x.data(), gate.data(), y.data(), dims); });
    check_cost("gate backward", 3 * all * size + 2 * batch * cols * size, [&] {
      kernels::gate_backward(simt.stream(), dtype, dy.data(), x.data(), gate.data(), {y.data()}, {dgate.data()}, dims);
    });
  }
}

TEST_CASE("trace: activations have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = bytes_of(dtype), rows = 2 * 197, cols = 768, all = rows * cols;
    const auto kind = kernels::Activation::gelu_erf;
    const Tensor x = simt.zeros(all, dtype), dy = simt.zeros(all, dtype), y = simt.zeros(all, dtype);
    const Tensor bias = simt.zeros(cols);
    const float* const no_bias = nullptr;
    for (const float* b : {no_bias, static_cast<const float*>(bias.f32())}) {
      const int64_t extra = b ? cols * 4 : 0;
      check_cost("activation forward", 2 * all * size + extra, [&] {
        kernels::activation_forward(simt.stream(), dtype, kind, x.data(), b, y.data(), {rows, cols});
      });
      check_cost("activation backward", 3 * all * size + extra, [&] {
        kernels::activation_backward(simt.stream(), dtype, kind, dy.data(), x.data(), b, nullptr, {y.data()}, {},
                                     {rows, cols});
      });
      check_cost("activation backward with the gradient of a bias", 3 * all * size + extra + cols * 4, [&] {
        kernels::activation_backward(simt.stream(), dtype, kind, dy.data(), x.data(), b, nullptr, {y.data()},
                                     {bias.data()}, {rows, cols});
      });
    }
  }
}

TEST_CASE("trace: dropout and drop_path have no races and move what they must") {
  Simt simt;
  const Tensor bytes = simt.zeros(sizeof(StepState), DType::u8);
  const auto* step = static_cast<const StepState*>(bytes.data());
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = bytes_of(dtype), batch = 8, count = 49 * 768, all = batch * count;
    const Tensor x = simt.zeros(all, dtype), y = simt.zeros(all, dtype), residual = simt.zeros(all, dtype);
    check_cost("dropout", 2 * all * size, [&] {
      kernels::dropout_forward(simt.stream(), dtype, x.data(), y.data(), step, {all, 0.1f, 1});
    });
    check_cost("dropout backward", 3 * all * size, [&] {
      kernels::dropout_backward(simt.stream(), dtype, x.data(), {y.data(), residual.data()}, step, {all, 0.1f, 1});
    });
    check_cost("drop_path", 3 * all * size, [&] {
      kernels::drop_path_forward(simt.stream(), dtype, x.data(), residual.data(), y.data(), step, {batch, count, 0, 1});
    });
    check_cost(  // all but surely dropped: x is not read, and what is added to itself not even that
        "drop_path of dropped samples", 2 * all * size, [&] {
          kernels::drop_path_forward(simt.stream(), dtype, x.data(), residual.data(), y.data(), step,
                                     {batch, count, 0.999f, 1});
          kernels::drop_path_backward(simt.stream(), dtype, x.data(), {y.data(), y.data()}, step,
                                      {batch, count, 0.999f, 1});
        });
  }
}

TEST_CASE("trace: fold_batchnorm has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t rows = 64, columns = 9 * 64;
    const Tensor w = simt.zeros(rows * columns, dtype), folded = simt.zeros(rows * columns, dtype);
    const Tensor ones = simt.zeros(rows), bias = simt.zeros(rows);
    check_cost("fold_batchnorm", 2 * rows * columns * bytes_of(dtype) + 2 * rows * 4, [&] {
      kernels::fold_batchnorm(simt.stream(), dtype, w.data(), nullptr, {ones.f32(), ones.f32(), ones.f32(), ones.f32()},
                              folded.data(), bias.f32(), {rows, columns, 1e-5f});
    });
  }
}

}  // namespace
