// The trace of emulated kernels: it finds races that no test of results sees, and counts what a kernel costs.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/kernels/device/async_copy.h"
#include "vtl/kernels/device/atomic.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/memory.h"
#include "vtl/kernels/device/mma.h"
#include "vtl/kernels/device/warp.h"
#include "vtl/kernels/simt/trace/trace.h"
#include "vtl/tests/harness/op_case.h"
#include "vtl/tests/harness/simt_cost.h"

namespace vtl::test {

std::vector<std::string> races_of(const std::function<void()>& work) {
  const emulator::Trace trace;
  work();
  return trace.races();
}

}  // namespace vtl::test

namespace {

using namespace vtl;
using namespace vtl::kernels::simt;
using vtl::emulator::KernelCounts;
using vtl::emulator::Trace;
using vtl::test::Simt;

// The places, in the order of the text, at which `kernel` races; empty when it does not.
template <class... Parameters, class... Arguments>
std::string planted(dim3 grid, dim3 block, void (*kernel)(Parameters...), const Arguments&... arguments) {
  Simt simt;
  Trace trace;
  launch(simt.stream(), {"planted", grid, block}, kernel, arguments...);
  std::string all;
  for (const auto& race : trace.races()) all += race + "\n";
  return all;
}

bool says(const std::string& text, std::initializer_list<const char*> parts) {
  bool all = true;
  for (const char* part : parts) all = all && text.find(part) != std::string::npos;
  if (!all) MESSAGE(text);
  return all;
}

// ---- races ----------------------------------------------------------------------------------------------------------

enum class Order { none, warp_barrier, block_barrier, shuffle };

// Each thread reads what a neighbour has written: `distance` away.
__global__ void __launch_bounds__(64) exchange(float* y, unsigned distance, Order order) {
  VTL_SHARED(float, tile, [64]);
  tile[threadIdx.x] = 1.0f;
  if (order == Order::warp_barrier) __syncwarp();
  if (order == Order::block_barrier) __syncthreads();
  if (order == Order::shuffle) shuffle_xor(1.0f, 1);
  store(y + threadIdx.x, tile[threadIdx.x ^ distance]);
}

// Reads, then writes what others have read; the results are right under every schedule.
__global__ void __launch_bounds__(64) read_then_write(bool barrier) {
  VTL_SHARED(int, tile, [64]);
  tile[threadIdx.x] = 5;
  __syncthreads();
  const int seen = tile[63 - threadIdx.x];
  if (barrier) __syncthreads();
  tile[threadIdx.x] = seen;
}

__global__ void __launch_bounds__(32) all_write(float* y, bool own) {
  store(y + (own ? blockIdx.x * 32 + threadIdx.x : 0), 1.0f);
}
__global__ void __launch_bounds__(32) all_count(int* y) { atomic_add(y, 1); }
__global__ void __launch_bounds__(32) read_across_blocks(float* y) {
  const float seen = load(y + 32 * ((blockIdx.x + 1) % gridDim.x) + threadIdx.x);
  store(y + 32 * blockIdx.x + threadIdx.x, seen);
}
__global__ void __launch_bounds__(64) neighbours_bytes(uint8_t* y) { y[threadIdx.x] = 1; }

__global__ void __launch_bounds__(64) async_exchange(const float* x, float* y, bool barrier) {
  VTL_SHARED(float, tile, [64]);
  copy_async<4>(tile + threadIdx.x, x + threadIdx.x);
  commit_async();
  __syncthreads();  // too early: nothing has arrived
  wait_async<0>();
  __syncwarp();
  if (barrier) __syncthreads();
  store(y + threadIdx.x, tile[threadIdx.x ^ 33]);
}

TEST_CASE("trace: races in shared memory are found and named, though the results are right") {
  Simt simt;
  const Tensor y = simt.zeros(64);
  CHECK(planted(1, 64, exchange, y.f32(), 32u, Order::block_barrier).empty());
  CHECK(planted(1, 64, exchange, y.f32(), 1u, Order::warp_barrier).empty());
  CHECK(says(planted(1, 64, exchange, y.f32(), 1u, Order::none),
             {"planted: tests/simt_trace_test.cpp:", " writes what tests/simt_trace_test.cpp:", " reads"}));
  CHECK(says(planted(1, 64, exchange, y.f32(), 32u, Order::warp_barrier),
             {" writes what tests/simt_trace_test.cpp:", " reads"}));
  CHECK_MESSAGE(says(planted(1, 64, exchange, y.f32(), 1u, Order::shuffle), {" writes what", " reads"}),
                "a shuffle orders no memory");
  CHECK(planted(1, 64, read_then_write, true).empty());
  CHECK(says(planted(1, 64, read_then_write, false), {" reads what", " writes"}));
}

TEST_CASE("trace: races between blocks") {
  Simt simt;
  const Tensor y = simt.zeros(128), count = simt.zeros(1, DType::i32), bytes = simt.zeros(64, DType::u8);
  CHECK(planted(4, 32, all_write, y.f32(), true).empty());
  CHECK(says(planted(4, 32, all_write, y.f32(), false), {" writes what", " writes"}));
  CHECK(planted(4, 32, all_count, static_cast<int*>(count.data())).empty());
  CHECK(says(planted(4, 32, read_across_blocks, y.f32()), {"planted"}));
  CHECK(planted(1, 64, neighbours_bytes, static_cast<uint8_t*>(bytes.data())).empty());
}

TEST_CASE("trace: an asynchronous copy is visible to others after a barrier that follows the wait") {
  Simt simt;
  const Tensor x = simt.zeros(64), y = simt.zeros(64);
  CHECK(planted(1, 64, async_exchange, x.f32(), y.f32(), true).empty());
  CHECK(says(planted(1, 64, async_exchange, x.f32(), y.f32(), false), {" writes what", " reads"}));
}

// ---- bounds ---------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) pokes_shared(int offset) {
  VTL_SHARED(int, tile, [33]);
  tile[static_cast<int>(threadIdx.x) + offset] = 1;
}
__global__ void __launch_bounds__(32) pokes(int* y) { y[threadIdx.x] = 1; }

TEST_CASE("trace: every access is checked, also without a wrapper") {
  Simt simt;
  const Tensor y = simt.zeros(20, DType::i32);
  const auto error_of = [&](auto kernel, auto argument) -> std::string {
    Trace trace;
    try {
      launch(simt.stream(), {"planted", 1, 32}, kernel, argument);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was wrong";
  };
  CHECK(says(error_of(pokes_shared, 1), {"nothing was wrong"}));
  CHECK(says(error_of(pokes_shared, 2), {"planted, block (0,0,0), thread (31,0,0): tests/simt_trace_test.cpp:",
                                         "outside the arrays of shared memory"}));
  CHECK(says(error_of(pokes, static_cast<int*>(y.data())), {"thread (20,0,0)", "0 bytes behind a block of 80 bytes"}));
}

// ---- counts ---------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) strided(const float* x, float* y, int stride) {
  store(y + threadIdx.x, load(x + static_cast<int>(threadIdx.x) * stride));
}
__global__ void __launch_bounds__(32) columns(float* y, int width) {
  VTL_SHARED(float, tile, [32 * 33]);
  for (unsigned i = 0; i < 32; ++i) tile[threadIdx.x * static_cast<unsigned>(width) + i] = 1.0f;
  __syncwarp();
  store(y + threadIdx.x, tile[threadIdx.x]);
}
__global__ void __launch_bounds__(32) products(float* y) {
  VTL_SHARED(bf16, tile, [16 * 24]);
  for (unsigned i = threadIdx.x; i < 16 * 24; i += 32) tile[i].bits = 0;
  __syncwarp();
  uint32_t a[4];
  ldmatrix(a, tile + lane_index() % 16 * 24 + lane_index() / 16 * 8);
  const uint32_t b[2] = {};
  float c[4] = {};
  for (int i = 0; i < 3; ++i) mma_bf16(c, a, b);
  store(y + threadIdx.x, c[0]);
}

KernelCounts only(const Trace& trace) {
  const auto kernels = trace.kernels();
  REQUIRE(kernels.size() == 1);
  return kernels[0];
}

TEST_CASE("trace: sectors, distinct bytes, wavefronts and tensor instructions are counted") {
  Simt simt;
  const Tensor x = simt.zeros(32 * 32), y = simt.zeros(32);
  for (const int stride : {1, 2, 8, 32}) {
    Trace trace;
    launch(simt.stream(), {"strided", 1, 32}, strided, x.f32(), y.f32(), stride);
    const KernelCounts counts = only(trace);
    CHECK(counts.bytes_read == 128);
    CHECK(counts.bytes_written == 128);
    CHECK(counts.sectors == 4 + static_cast<uint64_t>(stride < 8 ? 4 * stride : 32));
    CHECK(counts.least_sectors == 8);
  }
  for (const int width : {32, 33}) {
    Trace trace;
    launch(simt.stream(), {"columns", 1, 32}, columns, y.f32(), width);
    const KernelCounts counts = only(trace);
    CHECK(counts.least_wavefronts == 33);
    CHECK(counts.wavefronts == (width == 32 ? 32 * 32 + 1 : 33));
  }
  Trace trace;
  launch(simt.stream(), {"products", 1, 32}, products, y.f32());
  const KernelCounts counts = only(trace);
  CHECK(counts.tensor_instructions == 3);
  CHECK(counts.wavefronts == counts.least_wavefronts);
}

}  // namespace
