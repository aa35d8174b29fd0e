#include "vtl/bench/harness/machine.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::bench {
namespace {

// The shortest of a few runs: a peak is what the machine can do when nobody disturbs.
double shortest(const std::function<void()>& work) {
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

double matmul_peak(DType dtype) {
  constexpr int64_t n = 1536;
  const Tensor a = Tensor::zeros({n, n}, dtype, Device::cpu()), b = Tensor::zeros({n, n}, dtype, Device::cpu()), c = empty_like(a);
  return 2.0 * n * n * n / shortest([&] {
           kernels::gemm(stream(), {a.data(), dtype, n}, {b.data(), dtype, n, kernels::Transpose::yes}, {c.data(), dtype, n}, {n, n, n});
         });
}

double copy_peak() {
  constexpr int64_t count = int64_t{32} << 20;
  const Tensor a = Tensor::zeros({count}, DType::f32, Device::cpu()), b = Tensor::zeros({count}, DType::f32, Device::cpu());
  return 8.0 * count / shortest([&] { kernels::add_backward(stream(), DType::f32, a.data(), {b.data(), nullptr}, DType::f32, {}, {1, count}); });
}

}  // namespace

const Machine& machine() {
  static const Machine measured{matmul_peak(DType::f32), matmul_peak(DType::bf16), copy_peak()};
  return measured;
}

void report_bytes(benchmark::State& state, double bytes) {
  using benchmark::Counter;
  state.counters["bytes/s"] = Counter(bytes, Counter::kIsIterationInvariantRate, Counter::kIs1024);
  state.counters["of_copy"] = Counter(bytes / machine().copy, Counter::kIsIterationInvariantRate);
}

void report_flops(benchmark::State& state, double flops, DType dtype) {
  using benchmark::Counter;
  state.counters["flop/s"] = Counter(flops, Counter::kIsIterationInvariantRate);
  state.counters["of_matmul"] = Counter(flops / (dtype == DType::bf16 ? machine().matmul_bf16 : machine().matmul_f32), Counter::kIsIterationInvariantRate);
}

}  // namespace vtl::bench
