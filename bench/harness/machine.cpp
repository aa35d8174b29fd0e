#include "vtl/bench/harness/machine.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/values.h"
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
    stream().synchronize();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Large enough that a peak shows; on the emulated device, small enough to end.
int64_t size_for(int64_t cpu, int64_t cuda, int64_t simt) {
  return device().kind == DeviceKind::cpu ? cpu : device().kind == DeviceKind::cuda ? cuda : simt;
}

double matmul_peak(DType dtype) {
  const int64_t n = size_for(1536, 8192, 64);
  const Tensor a = values({n, n}, dtype), b = values({n, n}, dtype), c = empty_like(a);  // zeros would run faster
  return 2.0 * static_cast<double>(n * n * n) / shortest([&] {
           kernels::gemm(stream(), {a.data(), dtype, n}, {b.data(), dtype, n, kernels::Transpose::yes}, {c.data(), dtype, n}, {n, n, n});
         });
}

double copy_peak() {
  const int64_t count = size_for(int64_t{32} << 20, int64_t{512} << 20, 4096);
  const Tensor a = Tensor::zeros({count}, DType::f32, device()), b = Tensor::zeros({count}, DType::f32, device());
  return 8.0 * static_cast<double>(count) / shortest([&] { kernels::add_backward(stream(), DType::f32, a.data(), {b.data(), nullptr}, DType::f32, {}, {1, count}); });
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
