#include "vtl/kernels/simt/launch.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>

#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/kernels/simt/block.h"

namespace vtl::emulator {
namespace {

Block& this_threads_block() {
  static thread_local Block block;
  return block;
}

// i -> (i * factor + offset) mod count goes through all blocks once when factor and count have no common divisor.
class BlockOrder {
 public:
  BlockOrder(int64_t count, uint64_t seed) : count_(count) {
    if (!seed || count < 3) return;
    factor_ = static_cast<int64_t>((seed * 0x9e3779b97f4a7c15ull >> 33) % static_cast<uint64_t>(count)) | 1;
    while (std::gcd(factor_, count) != 1) factor_ += 2;
    offset_ = static_cast<int64_t>(seed % static_cast<uint64_t>(count));
  }
  int64_t operator[](int64_t i) const {
    return static_cast<int64_t>((static_cast<__int128>(i) * factor_ + offset_) % count_);
  }

 private:
  int64_t count_, factor_ = 1, offset_ = 0;
};

dim3 block_index(int64_t number, const dim3& grid) {
  const auto x = static_cast<unsigned>(number % grid.x), y = static_cast<unsigned>(number / grid.x % grid.y);
  return dim3(x, y, static_cast<unsigned>(number / grid.x / grid.y));
}

}  // namespace

std::string to_string(const dim3& d) { return concat("(", d.x, ",", d.y, ",", d.z, ")"); }

void check_shape(const LaunchShape& shape) {
  const auto refuse = [&](const auto&... what) {
    fail(ErrorKind::internal, shape.kernel, ": no GPU takes this launch: ", what...);
  };
  const dim3 &grid = shape.grid, &block = shape.block;
  if (!volume(grid) || !volume(block))
    refuse("grid ", to_string(grid), ", block ", to_string(block), "; return early where there is nothing to do");
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    refuse("grid ", to_string(grid), ", at most (2^31-1,65535,65535)");
  if (block.x > 1024 || block.y > 1024 || block.z > 64) refuse("block ", to_string(block), ", at most (1024,1024,64)");
  if (volume(block) > 1024) refuse(volume(block), " threads in a block, at most 1024");
  const size_t limit = std::min(settings().shared_limit, SharedMemory::kMost);
  if (shape.shared_bytes > limit)
    refuse("shared memory of ", shape.shared_bytes, " bytes, the device has ", limit, " for a block");
}

void run_grid(const LaunchShape& shape, const std::function<void()>& body) {
  check_shape(shape);
  Observer* const observer = settings().observer;
  const int64_t blocks = volume(shape.grid);
  const BlockOrder order(blocks, settings().seed);
  // A few pieces for each OS thread, so that they end together.
  const int64_t grain = observer ? blocks : std::max<int64_t>(1, blocks / (8 * compute_threads()));
  std::mutex mutex;
  std::string error;
  std::atomic<bool> failed{false};
  if (observer) observer->launch_begins(shape);
  parallel_for(blocks, grain, [&](int64_t begin, int64_t end) {
    Block& block = this_threads_block();
    for (int64_t i = begin; i < end && !failed; ++i) {
      if (block.run(shape, block_index(order[i], shape.grid), body)) continue;
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) error = block.error();
    }
  });
  if (observer) observer->launch_ends();
  if (failed) throw Error(ErrorKind::internal, error);
}

Settings& settings() {
  static constinit Settings one;
  return one;
}

}  // namespace vtl::emulator
