// What every bench is made of: where it runs, how large its problem is, how a call is timed.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <functional>
#include <string>

#include "vtl/core/context.h"
#include "vtl/core/dtype.h"

namespace vtl::bench {

// Where all benches run: that of the context's stream (the program's --device).
inline Device device() { return stream().device(); }

// A batch that is `on_cpu` images there, 256 on a GPU (nothing fits its cache) and one on the emulated device.
int64_t images(int64_t on_cpu);

// Times `call`, which queues work on the context's stream, after a call that is not timed. On a device an iteration is the
// mean of several calls, so that waiting for the last of them weighs little.
template <class Call>
void run(benchmark::State& state, const Call& call) {
  using Clock = std::chrono::steady_clock;
  const int calls = device().kind == DeviceKind::cuda ? 20 : 1;
  call();
  stream().synchronize();
  for (auto _ : state) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    stream().synchronize();
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count() / calls);
  }
}

// Registers NAME, and NAME/f32 and NAME/bf16. Each returns 0, for the initialiser of a variable.
int add(const std::string& name, const std::function<void(benchmark::State&)>& bench);
int add_for_floats(const std::string& name, const std::function<void(benchmark::State&, DType)>& bench);

}  // namespace vtl::bench
