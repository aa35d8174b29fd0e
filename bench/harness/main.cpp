// The kernel benches: measures the machine's own peaks first, so that every bench can say how near it comes.
#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const auto& machine = vtl::bench::machine();
  benchmark::AddCustomContext("matmul_f32_gflops", std::to_string(machine.matmul_f32 * 1e-9));
  benchmark::AddCustomContext("matmul_bf16_gflops", std::to_string(machine.matmul_bf16 * 1e-9));
  benchmark::AddCustomContext("copy_gb_per_s", std::to_string(machine.copy * 1e-9));
  benchmark::RunSpecifiedBenchmarks();
}
