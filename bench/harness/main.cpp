// The kernel benches: measures the machine's own peaks first, so that every bench can say how near it comes.
//   vtl_bench [--device=cpu|cuda|simt] [Google Benchmark's flags]
#include <benchmark/benchmark.h>

#include <iostream>
#include <string>
#include <vector>

#include "vtl/bench/harness/machine.h"
#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/runtime.h"

namespace {

using namespace vtl;

Device parse_device(const std::string& word) {
  for (const Device& device : {Device::cpu(), Device::cuda(), Device::simt()})
    if (word == (device.kind == DeviceKind::cuda ? "cuda" : to_string(device))) {
      runtime(device);  // throws where there is none
      return device;
    }
  fail(ErrorKind::bad_argument, "--device: ", word, " is none; give cpu, cuda or simt");
}

int run(Device device, int& argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Stream stream(device);
  const StreamScope scope(stream);
  const auto& machine = bench::machine();
  benchmark::AddCustomContext("device", to_string(device));
  benchmark::AddCustomContext("matmul_f32_gflops", std::to_string(machine.matmul_f32 * 1e-9));
  benchmark::AddCustomContext("matmul_bf16_gflops", std::to_string(machine.matmul_bf16 * 1e-9));
  benchmark::AddCustomContext("copy_gb_per_s", std::to_string(machine.copy * 1e-9));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kFlag = "--device=";
  std::string word = "cpu";
  std::vector<char*> rest;
  for (char* argument : std::vector<char*>(argv, argv + argc)) {
    if (std::string_view(argument).starts_with(kFlag))
      word = argument + kFlag.size();
    else
      rest.push_back(argument);
  }
  int count = static_cast<int>(rest.size());
  try {
    return run(parse_device(word), count, rest.data());
  } catch (const std::exception& error) {
    std::cerr << "vtl_bench: " << error.what() << '\n';
    return 1;
  }
}
