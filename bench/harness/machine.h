// What this machine reaches, measured in the same run: the ceiling that benches are held against.
#pragma once

#include <benchmark/benchmark.h>

#include "vtl/core/dtype.h"

namespace vtl::bench {

struct Machine {
  double matmul_f32, matmul_bf16;  // FLOP/s of a large product
  double copy;                     // bytes/s read and written by a large copy
};

// Measured at the first call.
const Machine& machine();

// Counters of a bench: rate and share of the machine's peak. `bytes` and `flops` are those of one iteration; bytes are what the
// operation must read and write at least.
void report_bytes(benchmark::State& state, double bytes);
void report_flops(benchmark::State& state, double flops, DType dtype);

}  // namespace vtl::bench
