// What the kernels of an operation cost a GPU, counted on the traced build of the emulated device: for the tests of a
// room, tests/simt_trace_<room>_test.cpp.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/simt/trace/trace.h"

namespace vtl::test {

// A stream of the emulated device, the current one while this lives, and memory there.
class Simt {
 public:
  Simt() : stream_(Device::simt()), scope_(stream_) {}
  Stream& stream() { return stream_; }
  Tensor zeros(int64_t count, DType dtype = DType::f32) { return Tensor::zeros({count}, dtype, Device::simt()); }

 private:
  Stream stream_;
  StreamScope scope_;
};

// What a kernel may cost. Who allows more explains it at the kernel.
struct CostLimits {
  double bytes = 1.05;                            // distinct bytes of all kernels together, of the least
  double sectors = 0.9;                           // sector efficiency of each kernel, at least
  double wavefronts = 1.1;                        // in shared memory, of the ideal
  double small = 0;                               // kernels that move less than this share of the least are not judged
  emulator::Races races = emulator::Races::find;  // ignore: where the shadow of large tensors would not fit
};

// The kernels that `work` launches have no races, and cost at most what `limits` say. The operation reads and writes
// `least_bytes` of device memory at least, each byte once. The counts are printed where a check fails, and by
// vtl_trace_tests --success.
inline void check_cost(const std::string& what, int64_t least_bytes, const std::function<void()>& work,
                       const CostLimits& limits = {}) {
  const emulator::Trace trace(limits.races);
  work();
  INFO(what);
  for (const auto& race : trace.races()) FAIL_CHECK(race);
  uint64_t bytes = 0;
  for (const emulator::KernelCounts& counts : trace.kernels()) {
    INFO(emulator::describe(counts));
    const uint64_t moved = counts.bytes_read + counts.bytes_written;
    bytes += moved;
    if (static_cast<double>(moved) < limits.small * static_cast<double>(least_bytes)) continue;
    CHECK(counts.sector_efficiency() >= limits.sectors);
    CHECK(counts.wavefront_ratio() <= limits.wavefronts);
  }
  CHECK_MESSAGE(bytes > 0, "nothing was launched");
  CHECK_MESSAGE(static_cast<double>(bytes) <= limits.bytes * static_cast<double>(least_bytes), "moves ", bytes,
                " bytes, ", least_bytes, " are enough");
}

}  // namespace vtl::test
