// Tensors of more than 2^31 elements: an index of 32 bits would write elsewhere. Gigabytes, and slow: run by name with
// --no-skip, on the device that VTL_TEST_DEVICE names.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/copy/copy.h"
#include "vtl/kernels/gemm/gemm.h"
#include "vtl/kernels/layernorm/layernorm.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace vtl::test {
namespace {

constexpr int64_t kCols = 1024, kTail = 64, kRows = (int64_t{1} << 21) + kTail;  // 2^31 elements before the tail

// The last rows that `op` makes of a huge tensor are those that it makes of its last rows alone.
void check_tail(const std::string& name, Device device, const std::function<void(const Tensor& x, const Tensor& y)>& op) {
  INFO(name);
  const Tensor x = Tensor::empty({kRows, kCols}, DType::bf16, device), y = empty_like(x);
  x.zero();
  std::vector<bf16> values(static_cast<size_t>(kTail * kCols));
  for (size_t i = 0; i < values.size(); ++i) values[i] = bf16(static_cast<float>(i % 251) / 64 - 2);
  const Tensor x_tail = x.slice(0, kRows - kTail, kRows), y_tail = y.slice(0, kRows - kTail, kRows);
  x_tail.copy_from_host(std::as_bytes(std::span(values)));
  const Tensor alone = empty_like(x_tail);
  op(x, y);
  op(x_tail, alone);
  std::vector<std::byte> got(alone.bytes()), want(alone.bytes());
  y_tail.copy_to_host(got);
  alone.copy_to_host(want);
  CHECK(got == want);
}

TEST_CASE("huge_tensors_are_indexed_with_64_bits" * doctest::skip()) {
  using namespace kernels;
  const Device device = devices().back();
  Stream on(device);
  const StreamScope scope(on);
  constexpr DType dtype = DType::bf16;
  const Tensor column = to_tensor(random_values("column", kCols), {kCols}, DType::f32, device),
               weight = to_tensor(random_values("weight", kCols * kCols), {kCols, kCols}, dtype, device),
               stat = Tensor::zeros({kRows}, DType::f32, device);

  check_tail("activation", device, [&](const Tensor& x, const Tensor& y) {
    activation_forward(on, dtype, Activation::gelu_erf, x.data(), nullptr, y.data(), {x.dim(0), kCols});
  });
  check_tail("add", device, [&](const Tensor& x, const Tensor& y) {
    add_forward(on, dtype, x.data(), dtype, x.data(), y.data(), {1, x.numel()});
  });
  check_tail("bias", device, [&](const Tensor& x, const Tensor& y) {
    bias_forward(on, dtype, x.data(), column.f32(), y.data(), {x.dim(0), kCols});
  });
  check_tail("layernorm", device, [&](const Tensor& x, const Tensor& y) {
    layernorm_forward(on, dtype, x.data(), column.f32(), column.f32(), y.data(), stat.f32(), stat.f32(),
                      {x.dim(0), kCols, 1e-6f});
  });
  check_tail("batchnorm", device, [&](const Tensor& x, const Tensor& y) {
    batchnorm_apply(on, dtype, x.data(), {column.f32(), column.f32()}, nullptr, Activation::relu, y.data(),
                    {x.dim(0), kCols});
  });
  check_tail("copy", device, [&](const Tensor& x, const Tensor& y) {
    copy_strided(on, 2, x.data(), y.data(), {2, {x.dim(0), kCols}, {kCols, 1}, {kCols, 1}});
  });
  check_tail("gemm", device, [&](const Tensor& x, const Tensor& y) {
    gemm(on, {x.data(), dtype, kCols}, {weight.data(), dtype, kCols}, {y.data(), dtype, kCols}, {x.dim(0), kCols, kCols});
  });
}

}  // namespace
}  // namespace vtl::test
