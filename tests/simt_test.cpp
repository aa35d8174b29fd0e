// What the emulated device finds, each shown by a kernel with the mistake in it; and what it computes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/runtime.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/device/async_copy.h"
#include "vtl/kernels/device/atomic.h"
#include "vtl/kernels/device/block.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/math.h"
#include "vtl/kernels/device/mma.h"
#include "vtl/kernels/layernorm/layernorm.h"
#include "vtl/kernels/simt/memory.h"
#include "vtl/kernels/simt/queue.h"
#include "vtl/layers/layernorm.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::kernels::simt;
using vtl::emulator::settings;
using vtl::emulator::SettingsScope;

const emulator::Schedule kSchedules[] = {emulator::Schedule::lock_step, emulator::Schedule::greedy};

// Device memory with the stream that works on it.
class Simt {
 public:
  Simt() : stream_(Device::simt()), scope_(stream_) {}

  Stream& stream() { return stream_; }
  Tensor ramp(int64_t count) {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i));
    return Tensor::from(std::span<const float>(values), {count}, Device::simt());
  }
  Tensor nothing(int64_t count) { return Tensor::empty({count}, DType::f32, Device::simt()); }

 private:
  Stream stream_;
  StreamScope scope_;
};

std::vector<float> read(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.numel()));
  t.copy_to_host(std::as_writable_bytes(std::span(values)));
  return values;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::internal);
    return error.what();
  }
  return "nothing was wrong";
}

// The error of `kernel`, launched as "planted".
template <class... Parameters, class... Arguments>
std::string planted(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Parameters...),
                    const Arguments&... arguments) {
  Simt simt;
  return message_of([&] { launch(simt.stream(), {"planted", grid, block, shared_bytes}, kernel, arguments...); });
}

bool says(const std::string& message, std::initializer_list<const char*> parts) {
  bool all = true;
  for (const char* part : parts) all = all && message.find(part) != std::string::npos;
  if (!all) MESSAGE(message);
  return all;
}

// ---- what works -----------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(128) block_sums(const float* x, float* sums, int count) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 128) sum += load(x + i);
  sum = block_sum<128>(sum);
  if (threadIdx.x == 0) store(sums + blockIdx.x, sum);
}

__global__ void __launch_bounds__(32) warp_facts(float* out) {
  const unsigned lane = lane_index();
  const auto mine = static_cast<float>(lane);
  store(out + lane, shuffle(mine, 31 - lane));
  store(out + 32 + lane, shuffle_xor(mine, 5));
  store(out + 64 + lane, shuffle_up(mine, 3));
  store(out + 96 + lane, shuffle_down(mine, 3));
  store(out + 128 + lane, warp_max<8>(mine));
  store(out + 160 + lane, static_cast<float>(ballot(lane < 5)));
  store(out + 192 + lane, any_of_warp(lane == 7) && !any_of_warp(lane == 40) && all_of_warp(lane < 32) ? 1.0f : 0.0f);
  // A vote asks the lanes that are left.
  if (lane >= 16) return;
  store(out + 224 + lane, all_of_warp(lane < 16) ? 1.0f : 0.0f);
}

__global__ void __launch_bounds__(256) count_up(int* total, int* largest) {
  atomic_add(total, 1);
  atomic_max(largest, static_cast<int>(blockIdx.x * 256 + threadIdx.x));
}

// c = a b with a [16][16] and b [16][8], bf16, through ldmatrix.
__global__ void __launch_bounds__(32) multiply_bf16(const bf16* a, const bf16* b, float* c) {
  VTL_SHARED(bf16, a_tile, [16 * 24]);  // rows of 48 bytes: neighbours do not share banks
  VTL_SHARED(bf16, b_tile, [16 * 8]);
  const unsigned lane = lane_index();
  copy_async<16>(a_tile + lane / 2 * 24 + lane % 2 * 8, a + lane * 8);
  if (lane < 16) copy_async<16>(b_tile + lane * 8, b + lane * 8);
  commit_async();
  wait_async<0>();
  __syncwarp();
  uint32_t left[4], right[2];
  ldmatrix(left, a_tile + lane % 16 * 24 + lane / 16 * 8);
  ldmatrix_trans(right, b_tile + lane % 16 * 8);
  float sum[4] = {};
  mma_bf16(sum, left, right);
  for (unsigned i = 0; i < 4; ++i) store(c + (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2, sum[i]);
}

// c = a b with a [16][8] and b [8][8].
__global__ void __launch_bounds__(32) multiply_tf32(const float* a, const float* b, float* c) {
  const unsigned g = lane_index() / 4, t = lane_index() % 4;
  const uint32_t left[4] = {to_tf32(load(a + g * 8 + t)), to_tf32(load(a + (g + 8) * 8 + t)),
                            to_tf32(load(a + g * 8 + t + 4)), to_tf32(load(a + (g + 8) * 8 + t + 4))};
  const uint32_t right[2] = {to_tf32(load(b + t * 8 + g)), to_tf32(load(b + (t + 4) * 8 + g))};
  float sum[4] = {};
  mma_tf32(sum, left, right);
  for (unsigned i = 0; i < 4; ++i) store(c + (g + i / 2 * 8) * 8 + t * 2 + i % 2, sum[i]);
}

__global__ void __launch_bounds__(32) copy_rows(const float* x, float* y, unsigned taken) {
  VTL_DYNAMIC_SHARED(float, tile);
  copy_async<16>(tile + threadIdx.x * 4, x + threadIdx.x * 4, taken);
  commit_async();
  copy_async<8>(tile + 128 + threadIdx.x * 2, x + threadIdx.x * 2);
  commit_async();
  wait_async<1>();
  __syncwarp();
  store_vec(y + threadIdx.x * 4, load_vec<4>(tile + (31 - threadIdx.x) * 4));
  wait_async<0>();
}

TEST_CASE("simt: blocks, barriers and shuffles add up, whatever the schedule, the order of blocks and the threads") {
  const SettingsScope scope;
  Simt simt;
  const Tensor x = simt.ramp(1000), sums = simt.nothing(500);
  const int threads = compute_threads();
  for (const auto schedule : kSchedules)
    for (const uint64_t seed : {0, 1, 99}) {
      settings().schedule = schedule;
      settings().seed = seed;
      set_compute_threads(seed == 1 ? 1 : threads);
      sums.zero();
      launch(simt.stream(), {"block_sums", 500, 128}, block_sums, x.f32(), sums.f32(), 1000);
      for (const float sum : read(sums)) CHECK(sum == 499500.0f);
    }
  set_compute_threads(threads);
}

TEST_CASE("simt: shuffles and votes") {
  const SettingsScope scope;
  Simt simt;
  for (const auto schedule : kSchedules) {
    settings().schedule = schedule;
    const Tensor out = simt.nothing(256);
    launch(simt.stream(), {"warp_facts", 1, 32}, warp_facts, out.f32());
    const auto got = read(out);
    for (size_t l = 0; l < 32; ++l) {
      CHECK(got[l] == 31.0f - static_cast<float>(l));
      CHECK(got[32 + l] == static_cast<float>(l ^ 5));
      CHECK(got[64 + l] == static_cast<float>(l < 3 ? l : l - 3));
      CHECK(got[96 + l] == static_cast<float>(l > 28 ? l : l + 3));
      CHECK(got[128 + l] == static_cast<float>(l / 8 * 8 + 7));
      CHECK(got[160 + l] == 31.0f);
      CHECK(got[192 + l] == 1.0f);
      if (l < 16) CHECK(got[224 + l] == 1.0f);
    }
  }
}

TEST_CASE("simt: integer atomics") {
  Simt simt;
  const Tensor numbers = Tensor::zeros({2}, DType::i32, Device::simt());
  auto* first = static_cast<int*>(numbers.data());
  launch(simt.stream(), {"count_up", 100, 256}, count_up, first, first + 1);
  int got[2];
  numbers.copy_to_host(std::as_writable_bytes(std::span(got)));
  CHECK(got[0] == 25600);
  CHECK(got[1] == 25599);
}

TEST_CASE("simt: tensor-core products have the definition's values") {
  using namespace vtl::test;
  Simt simt;
  for (const bool tf32 : {false, true}) {
    const int64_t depth = tf32 ? 8 : 16;
    const DType dtype = tf32 ? DType::f32 : DType::bf16;
    // Values with 8 bits of mantissa: products are exact, and sums nearly so.
    const Values a = rounded(random_values("mma.a", 16 * depth), DType::bf16),
                 b = rounded(random_values("mma.b", depth * 8), DType::bf16);
    const Tensor left = to_tensor(a, {16, depth}, dtype, Device::simt()),
                 right = to_tensor(b, {depth, 8}, dtype, Device::simt());
    const Tensor out = simt.nothing(16 * 8);
    if (tf32)
      launch(simt.stream(), {"multiply_tf32", 1, 32}, multiply_tf32, left.f32(), right.f32(), out.f32());
    else
      launch(simt.stream(), {"multiply_bf16", 1, 32}, multiply_bf16, static_cast<bf16*>(left.data()),
             static_cast<bf16*>(right.data()), out.f32());
    const auto got = read(out);
    for (int64_t i = 0; i < 16; ++i)
      for (int64_t j = 0; j < 8; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < depth; ++k)
          sum += a[static_cast<size_t>(i * depth + k)] * b[static_cast<size_t>(k * 8 + j)];
        CHECK(std::abs(got[static_cast<size_t>(i * 8 + j)] - sum) <=
              16 * 36 * 0x1p-24);  // depth terms of at most 1.5^2
      }
  }
}

TEST_CASE("simt: asynchronous copies take bytes and fill up with zeros") {
  Simt simt;
  const Tensor x = simt.ramp(128), y = simt.nothing(128);
  for (const unsigned taken : {16u, 8u, 0u}) {
    launch(simt.stream(), {"copy_rows", 1, 32, 192 * 4}, copy_rows, x.f32(), y.f32(), taken);
    const auto got = read(y);
    for (size_t i = 0; i < 128; ++i) {
      const float source = static_cast<float>((31 - i / 4) * 4 + i % 4);
      CHECK(got[i] == (i % 4 * 4 < taken ? source : 0.0f));
    }
  }
}

// ---- barriers and warps ---------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(64) reverse(const float* x, float* y, bool barrier) {
  VTL_SHARED(float, tile, [64]);
  tile[threadIdx.x] = load(x + threadIdx.x);
  if (barrier) __syncthreads();
  store(y + threadIdx.x, tile[63 - threadIdx.x]);
}

__global__ void __launch_bounds__(64) leaves_early(int count) {
  if (static_cast<int>(threadIdx.x) >= count) return;
  __syncthreads();
}

__global__ void __launch_bounds__(64) two_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void __launch_bounds__(64) barrier_within_shuffle(float* y) {
  float value = 1;
  if (lane_index() == 3)
    __syncthreads();
  else
    value = shuffle_xor(value, 16);
  store(y + threadIdx.x, value);
}

__global__ void __launch_bounds__(32) two_shuffles(float* y) {
  const auto mine = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16)
    store(y + threadIdx.x, shuffle_xor(mine, 16));
  else
    store(y + threadIdx.x, shuffle_xor(mine, 16));
}

__global__ void __launch_bounds__(32) shuffle_within(uint32_t mask, unsigned lanes, unsigned source) {
  if (lane_index() < lanes) shuffle(1.0f, source, mask);
}

__global__ void __launch_bounds__(32) half_warp_product() {
  float c[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (lane_index() < 16) mma_bf16(c, a, b);
}

TEST_CASE("simt: a missing barrier changes the result under one of the schedules") {
  const SettingsScope scope;
  for (const bool barrier : {true, false}) {
    bool right = true;
    for (const auto schedule : kSchedules) {
      settings().schedule = schedule;
      Simt simt;
      const Tensor x = simt.ramp(64), y = simt.nothing(64);
      launch(simt.stream(), {"reverse", 1, 64}, reverse, x.f32(), y.f32(), barrier);
      const auto got = read(y);
      for (size_t i = 0; i < 64; ++i) right = right && got[i] == static_cast<float>(63 - i);
    }
    CHECK(right == barrier);
  }
}

TEST_CASE("simt: divergent barriers are named") {
  CHECK(says(planted(2, 64, 0, leaves_early, 40),
             {"planted, block (",
              "simt_test.cpp:", "divergent barrier: 40 of 64 threads wait here; thread (40,0,0) has left"}));
  CHECK(says(planted(1, 64, 0, leaves_early, 64), {"nothing was wrong"}));
  CHECK(says(planted(1, 64, 0, two_barriers), {"divergent barrier", "is at the barrier at"}));
  Simt simt;
  CHECK(says(planted(1, 64, 0, barrier_within_shuffle, simt.nothing(64).f32()),
             {"divergent warp: shuffle waits for lanes that never come", "thread (3,0,0) waits at the barrier at"}));
}

TEST_CASE("simt: divergent warps, and lanes that have ended or are not named") {
  Simt simt;
  CHECK(says(planted(1, 32, 0, two_shuffles, simt.nothing(32).f32()), {"divergent warp: this lane is at shuffle"}));
  CHECK(says(planted(1, 32, 0, shuffle_within, kAllLanes, 8u, 9u), {"shuffle: reads lane 9, which has ended"}));
  CHECK(
      says(planted(1, 32, 0, shuffle_within, 0xffu, 8u, 9u), {"shuffle: reads lane 9, which the mask does not name"}));
  CHECK(says(planted(1, 32, 0, shuffle_within, 0xffu, 9u, 1u),
             {"thread (8,0,0)", "calling lane 8 is not named in its own mask"}));
  CHECK(says(planted(1, 32, 0, shuffle_within, 0xffu, 8u, 1u), {"nothing was wrong"}));
  CHECK(says(planted(1, 32, 0, half_warp_product), {"mma m16n8k16 bf16 by part of a warp"}));
  CHECK(says(planted(1, 16, 0, half_warp_product), {"mma m16n8k16 bf16 by part of a warp"}));
}

// ---- memory ---------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) store_at(float* y, int64_t offset) {
  if (threadIdx.x == 7) store(y + offset, 1.0f);
}
__global__ void __launch_bounds__(32) load_at(const float* y, int64_t offset) { load(y + offset); }
__global__ void __launch_bounds__(32) load_vec_at(const float* y, int64_t offset) { load_vec<4>(y + offset); }

__global__ void __launch_bounds__(32) shared_at(int offset, bool poked) {
  VTL_SHARED(float, tile, [33]);
  VTL_SHARED(float, next, [32]);
  next[threadIdx.x] = 0;
  if (poked)
    const_cast<volatile float*>(&tile[0])[offset] = 1.0f;
  else
    store(tile + offset, 1.0f);
}

__global__ void __launch_bounds__(32) stale_shared(float* y) {
  VTL_SHARED(float, tile, [32]);
  VTL_DYNAMIC_SHARED(float, more);
  store(y + threadIdx.x, tile[threadIdx.x]);
  store(y + 32 + threadIdx.x, more[threadIdx.x]);
  tile[threadIdx.x] = more[threadIdx.x] = 1.0f;
}

TEST_CASE("simt: device memory out of bounds") {
  Simt simt;
  const Tensor y = simt.nothing(32);
  CHECK(says(planted(1, 32, 0, store_at, y.f32(), 32),
             {"planted, block (0,0,0), thread (7,0,0), tests/simt_test.cpp:", "write of 4 bytes out of bounds",
              "0 bytes behind a block of 128 bytes"}));
  CHECK(says(planted(1, 32, 0, store_at, y.f32(), -1), {"4 bytes before a block of 128 bytes"}));
  CHECK(says(planted(1, 32, 0, load_vec_at, y.f32(), 32), {"read of 16 bytes out of bounds"}));
  CHECK(says(planted(1, 32, 0, store_at, y.f32(), 31), {"nothing was wrong"}));
  float host[1] = {};
  CHECK(says(planted(1, 32, 0, load_at, host, 0), {"outside the memory of the device"}));
  std::vector<float> many(33);
  CHECK(says(message_of([&] {
               const auto& table = runtime(Device::simt());
               table.copy_to_device(Device::simt(), simt.stream().native(), y.data(), many.data(), 33 * 4);
             }),
             {"copy to the device of 132 bytes out of bounds"}));
}

TEST_CASE("simt: memory that has been given back is out of bounds") {
  Simt simt;
  float* gone = nullptr;
  {
    const Tensor y = simt.nothing(32);
    gone = y.f32();
  }
  CHECK(says(planted(1, 32, 0, load_at, gone, 0), {"out of bounds"}));
}

TEST_CASE("simt: vectors have to be aligned") {
  Simt simt;
  const Tensor y = simt.ramp(64);
  CHECK(says(planted(1, 32, 0, load_vec_at, y.f32(), 1),
             {"thread (0,0,0)", "misaligned read of 16 bytes: the address ends in 4, expected a multiple of 16"}));
  CHECK(says(planted(1, 32, 0, load_vec_at, y.f32(), 8), {"nothing was wrong"}));
}

TEST_CASE("simt: shared memory out of bounds") {
  CHECK(says(planted(1, 32, 0, shared_at, 33, false), {"write of 4 bytes outside the arrays of shared memory"}));
  CHECK(says(planted(1, 32, 0, shared_at, 32, false), {"nothing was wrong"}));
}

// Where accesses are not seen, the damage is. (The address sanitizer sees the access, and ends the process.)
#if !defined(__SANITIZE_ADDRESS__)
// Not through a wrapper, as a slip of a pointer would.
__global__ void __launch_bounds__(32) poke(float* y, int64_t offset) { const_cast<volatile float*>(y)[offset] = 1.0f; }

TEST_CASE("simt: writes past a block without a wrapper damage a guard zone") {
  Simt simt;
  CHECK(says(planted(1, 32, 0, shared_at, 34, true),
             {"planted, block (0,0,0): something wrote outside the arrays of shared memory"}));
  {
    const Tensor y = simt.nothing(30);
    launch(simt.stream(), {"poke", 1, 32}, poke, y.f32(), 30);
  }
  CHECK(says(message_of([&] { simt.stream().synchronize(); }), {"something wrote outside its block"}));
  simt.stream().synchronize();  // is told once
}
#endif

TEST_CASE("simt: nothing stale is ever read: new memory, scratch and shared memory hold NaN") {
  Simt simt;
  const auto all_nan = [](const Tensor& t) {
    for (const float v : read(t))
      if (!std::isnan(v)) return false;
    return true;
  };
  simt.ramp(64);
  CHECK(all_nan(simt.nothing(64)));
  const Tensor y = simt.nothing(64);
  for (int i = 0; i < 2; ++i) {
    launch(simt.stream(), {"stale_shared", 3, 32, 128}, stale_shared, y.f32());
    CHECK(all_nan(y));
  }
  for (int i = 0; i < 2; ++i) {
    const Scratch scratch = simt.stream().scratch(256);
    const auto& table = runtime(Device::simt());
    table.copy_on_device(Device::simt(), simt.stream().native(), y.data(), scratch.data(), 256);
    CHECK(all_nan(y));
    table.zero(Device::simt(), simt.stream().native(), scratch.data(), 256);
  }
}

// ---- resources ------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) wants_static() {
  VTL_SHARED(char, tile, [40 << 10]);
  tile[threadIdx.x] = 0;
}
__global__ void __launch_bounds__(32) wants_too_much_static() {
  VTL_SHARED(char, tile, [40 << 10]);
  VTL_SHARED(char, more, [9 << 10]);
  tile[threadIdx.x] = more[threadIdx.x] = 0;
}
__global__ void __launch_bounds__(1024) nothing_at_all() {}

TEST_CASE("simt: shared memory has the device's limit, a setting") {
  const SettingsScope scope;
  for (const size_t limit : {emulator::kSharedSm86, emulator::kSharedSm80, emulator::kSharedSm90}) {
    settings().shared_limit = limit;
    CHECK(says(planted(1, 32, limit, nothing_at_all), {"nothing was wrong"}));
    CHECK(says(planted(1, 32, limit + 1, nothing_at_all), {"planted: no GPU takes this launch: shared memory of"}));
    CHECK(says(planted(1, 32, limit - (40 << 10), wants_static), {"nothing was wrong"}));
    CHECK(says(planted(1, 32, limit - (39 << 10), wants_static), {"thread (0,0,0)", "shared memory of"}));
  }
  CHECK(says(planted(1, 32, 0, wants_too_much_static), {"static shared memory over 49152 bytes"}));
}

TEST_CASE("simt: a launch that no GPU takes") {
  CHECK(says(planted(1, 1024, 0, nothing_at_all), {"nothing was wrong"}));
  for (const auto& [grid, block] : {std::pair<dim3, dim3>{0, 32},
                                    {1, 0},
                                    {1, 1025},
                                    {1, dim3(32, 33)},
                                    {1, dim3(1, 1, 65)},
                                    {dim3(1, 65536), 32},
                                    {dim3(1, 1, 65536), 32},
                                    {0x80000000u, 32}})
    CHECK(says(planted(grid, block, 0, nothing_at_all), {"planted: no GPU takes this launch"}));
}

__attribute__((noinline)) int descend(int levels) {
  volatile char frame[1024];
  for (auto& byte : frame) byte = 1;
  return levels ? descend(levels - 1) + frame[0] : frame[1023];
}
__global__ void __launch_bounds__(32) recurse(int* out, int levels) {
  if (threadIdx.x == 0) store(out, descend(levels));
}

TEST_CASE("simt: a stack that is too small") {
  Simt simt;
  const Tensor out = Tensor::zeros({1}, DType::i32, Device::simt());
  CHECK(says(planted(1, 32, 0, recurse, static_cast<int*>(out.data()), 150),
             {"thread (0,0,0): the stack of 131072 bytes was too small"}));
  CHECK(says(planted(1, 32, 0, recurse, static_cast<int*>(out.data()), 20), {"nothing was wrong"}));
}

__global__ void __launch_bounds__(32) waits_for_another_block(int* flag) {
  if (blockIdx.x == 1) return;
  while (load(flag) == 0) {
  }
}

TEST_CASE("simt: a block that waits for another one") {
  const SettingsScope scope;
  settings().most_accesses = 100000;
  Simt simt;
  const Tensor flag = Tensor::zeros({1}, DType::i32, Device::simt());
  CHECK(says(planted(2, 32, 0, waits_for_another_block, static_cast<int*>(flag.data())),
             {"100000 accesses of one thread: does it spin"}));
}

__global__ void __launch_bounds__(32) throws(int n) { VTL_CHECK(n == 0, "n is ", n); }

TEST_CASE("simt: a kernel that throws") {
  CHECK(says(planted(1, 32, 0, throws, 3), {"thread (0,0,0): a kernel throws nothing, this one: n is 3"}));
}

// ---- asynchronous copies --------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) forgets_to_wait(const float* x, float* y, bool reads) {
  VTL_SHARED(float, tile, [32]);
  copy_async<4>(tile + threadIdx.x, x + threadIdx.x);
  commit_async();
  if (!reads) return;
  store(y + threadIdx.x, load(tile + threadIdx.x));
  wait_async<0>();
}
__global__ void __launch_bounds__(32) copies_to(float* to, const float* from) {
  copy_async<16>(to, from);
  commit_async();
  wait_async<0>();
}

TEST_CASE("simt: an asynchronous copy that nobody waits for") {
  Simt simt;
  const Tensor x = simt.ramp(32), y = simt.nothing(32);
  CHECK(says(planted(1, 32, 0, forgets_to_wait, x.f32(), y.f32(), false),
             {"ended without waiting for this asynchronous copy"}));
  CHECK(says(planted(1, 32, 0, forgets_to_wait, x.f32(), y.f32(), true), {"an asynchronous copy has still to write"}));
  CHECK(says(planted(1, 32, 0, copies_to, y.f32(), x.f32()), {"does not go to shared memory"}));
}

// ---- queues and graphs ----------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(32) add_one(float* y) { store(y + threadIdx.x, load(y + threadIdx.x) + 1.0f); }

TEST_CASE("simt: lazy queues keep their own order, and events order queues") {
  const SettingsScope scope;
  settings().lazy = true;
  bool always_right = true;
  for (const bool waits : {true, false}) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      settings().seed = seed;
      Simt simt;
      Stream other(Device::simt());
      const Tensor y = simt.nothing(32);
      y.zero();
      simt.stream().synchronize();
      emulator::Event event;
      launch(simt.stream(), {"add_one", 1, 32}, add_one, y.f32());
      event.record(simt.stream().native());
      if (waits) event.wait(other.native());
      const auto& table = runtime(Device::simt());
      table.zero(Device::simt(), other.native(), y.data(), 128);
      other.synchronize();
      simt.stream().synchronize();
      const float got = read(y)[0];
      if (waits)
        CHECK(got == 0.0f);
      else
        always_right = always_right && got == 0.0f;
    }
  }
  CHECK_MESSAGE(!always_right, "no seed showed the missing wait");
}

TEST_CASE("simt: pinned memory that is reused before its copy has run gives other values in lazy mode") {
  const SettingsScope scope;
  settings().lazy = true;
  const auto& table = runtime(Device::simt());
  const Device device = Device::simt();
  for (const bool waits : {true, false}) {
    Simt simt;
    auto* pinned = static_cast<float*>(table.allocate_pinned(device, 128));
    void* const event = table.create_event(device);
    const Tensor first = simt.nothing(32), second = simt.nothing(32);
    for (const Tensor* t : {&first, &second}) {
      if (waits) table.synchronize_event(device, event);
      std::fill(pinned, pinned + 32, t == &first ? 1.0f : 2.0f);
      table.copy_from_pinned(device, simt.stream().native(), t->data(), pinned, 128);
      table.record_event(device, simt.stream().native(), event);
    }
    CHECK(read(first)[0] == (waits ? 1.0f : 2.0f));
    CHECK(read(second)[0] == 2.0f);
    table.destroy_event(device, event);
    table.release_pinned(device, pinned);
  }
}

TEST_CASE("simt: a lazy queue runs nothing until somebody waits, and keeps what the host gave it") {
  const SettingsScope scope;
  settings().lazy = true;
  Simt simt;
  std::vector<float> host(32, 3.0f);
  const Tensor y = Tensor::from(std::span<const float>(host), {32}, Device::simt());
  host.assign(32, -1.0f);
  int ran = 0;
  emulator::enqueue(simt.stream().native(), [&] { ++ran; });
  launch(simt.stream(), {"add_one", 1, 32}, add_one, y.f32());
  CHECK(ran == 0);
  CHECK(read(y)[31] == 4.0f);
  CHECK(ran == 1);
}

TEST_CASE("simt: a graph records launches and copies with their arguments and replays them") {
  const auto& table = runtime(Device::simt());
  const Device device = Device::simt();
  Simt simt;
  void* const queue = simt.stream().native();
  const Tensor x = simt.ramp(32), y = simt.nothing(32);
  y.zero();
  table.begin_capture(device, queue);
  table.copy_on_device(device, queue, y.data(), x.data(), 128);
  launch(simt.stream(), {"add_one", 1, 32}, add_one, y.f32());
  void* const graph = table.end_capture(device, queue);
  CHECK(read(y)[0] == 0.0f);
  const float first = read(x)[0];
  for (int i = 0; i < 2; ++i) {
    table.replay(device, queue, graph);
    CHECK(read(y)[0] == first + 1);
  }
  table.destroy_graph(device, graph);
}

TEST_CASE("simt: a graph replays an operation with its scratch") {
  const auto& table = runtime(Device::simt());
  const Device device = Device::simt();
  Simt simt;
  const kernels::LayerNormDims dims{200, 64, 1e-6f};
  const Tensor x = simt.ramp(200 * 64), dx = simt.nothing(200 * 64), ones = simt.ramp(200), dweight = simt.nothing(64);
  const auto step = [&] {
    kernels::layernorm_backward(simt.stream(), DType::f32, x.data(), x.data(), nullptr, ones.f32(), ones.f32(),
                                {dx.data()}, {dweight.data()}, {}, dims);
  };
  step();  // also makes the scratch grow, which is an allocation
  const auto expected = read(dx), expected_sum = read(dweight);
  table.begin_capture(device, simt.stream().native());
  step();
  void* const graph = table.end_capture(device, simt.stream().native());
  for (int i = 0; i < 2; ++i) {
    dx.zero();
    dweight.zero();
    table.replay(device, simt.stream().native(), graph);
    CHECK(read(dx) == expected);
    CHECK(read(dweight) == expected_sum);
  }
  table.destroy_graph(device, graph);
}

TEST_CASE("simt: allocating, waiting, reading and writing are errors while a graph is captured") {
  const auto& table = runtime(Device::simt());
  const Device device = Device::simt();
  Simt simt;
  void* const queue = simt.stream().native();
  const Tensor y = simt.nothing(32);
  table.begin_capture(device, queue);
  CHECK(says(message_of([&] { table.allocate(device, 256); }),
             {"allocation of device memory while a graph is captured"}));
  CHECK(says(message_of([&] { simt.stream().synchronize(); }), {"waiting while a graph is captured"}));
  CHECK(says(message_of([&] { read(y); }), {"reading results while a graph is captured"}));
  const std::vector<float> host(32);
  CHECK(says(message_of([&] { table.copy_to_device(device, queue, y.data(), host.data(), 128); }),
             {"a copy from host memory that may be gone at a replay while a graph is captured"}));
  table.destroy_graph(device, table.end_capture(device, queue));
  read(y);
}

// ---- whole operations -----------------------------------------------------------------------------------------------

TEST_CASE("simt: operations with a .cu text run here") {
  Simt simt;
  const Tensor x = simt.ramp(2 * 64).reshape({2, 64}), one = simt.nothing(64), none = simt.nothing(64);
  none.zero();
  const auto y = read(layers::layernorm(x, none, none, 1e-6f));
  for (const float v : y) CHECK(v == 0.0f);
}

}  // namespace
