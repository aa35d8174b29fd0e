#include "vtl/bench/harness/bench.h"

namespace vtl::bench {

int64_t images(int64_t on_cpu) {
  switch (device().kind) {
    case DeviceKind::cpu: return on_cpu;
    case DeviceKind::cuda: return 256;
    case DeviceKind::simt: return 1;
  }
  return on_cpu;
}

int add(const std::string& name, const std::function<void(benchmark::State&)>& bench) {
  benchmark::RegisterBenchmark(name.c_str(), bench)->Unit(benchmark::kMicrosecond)->UseManualTime();
  return 0;
}

int add_for_floats(const std::string& name, const std::function<void(benchmark::State&, DType)>& bench) {
  for (const DType dtype : {DType::f32, DType::bf16})
    add(name + "/" + vtl::name(dtype), [=](benchmark::State& state) { bench(state, dtype); });
  return 0;
}

}  // namespace vtl::bench
