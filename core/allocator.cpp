#include "vtl/core/allocator.h"

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/runtime.h"

namespace vtl {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xa5;
constexpr size_t kSmallSegment = size_t{2} << 20;   // shared by requests below kLargeRequest
constexpr size_t kLargeRequest = size_t{1} << 20;
constexpr size_t kLargeSegment = size_t{32} << 20;  // shared by requests below it; larger ones get their own

void* queue_on(Device device) {
  const Stream* stream = context().stream;
  return stream && stream->device() == device ? stream->native() : nullptr;
}

std::atomic<bool> guards{false};
std::atomic<int64_t> damaged{0};

// A piece of a segment; neighbours are linked so that free ones merge.
struct Block {
  char* pointer = nullptr;
  size_t bytes = 0;
  bool free = false;
  bool small = false;
  size_t guarded = 0;  // the size asked for, when guard zones surround it
  Block *before = nullptr, *after = nullptr;
};

struct BySize {
  bool operator()(const Block* a, const Block* b) const {
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->pointer < b->pointer;
  }
};

class Pool {
 public:
  explicit Pool(Device device) : device_(device) {}

  void* allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const bool guard = guards && device_.kind == DeviceKind::cpu;
    // The emulated device looks after itself: it needs something between blocks that belongs to nobody.
    const size_t zones = guard ? 2 * kGuard : device_.kind == DeviceKind::simt ? kGuard : 0;
    const size_t need = (bytes + kAlignment - 1) / kAlignment * kAlignment + zones;
    const bool small = need < kLargeRequest;
    auto& free_blocks = free_blocks_[small];
    Block key;
    key.bytes = need;
    auto fit = free_blocks.lower_bound(&key);
    Block* block = nullptr;
    if (fit != free_blocks.end()) {
      block = *fit;
      free_blocks.erase(fit);
    } else {
      block = new_segment(need, small);
    }
    if (block->bytes > need) split(block, need);
    block->free = false;
    block->guarded = guard ? bytes : 0;
    char* const pointer = block->pointer + (guard ? kGuard : 0);
    in_use_[pointer] = block;
    if (guard) {
      std::memset(block->pointer, kGuardByte, block->bytes);
      std::memset(pointer, 0xff, bytes);
    }
    stats_.live_bytes += block->bytes;
    if (stats_.live_bytes > stats_.peak_bytes) stats_.peak_bytes = stats_.live_bytes;
    if (const auto lend = runtime(device_).lend) lend(device_, queue_on(device_), pointer, bytes);
    return pointer;
  }

  void deallocate(void* pointer) {
    const std::lock_guard lock(mutex_);
    const auto found = in_use_.find(pointer);
    Block* block = found->second;
    in_use_.erase(found);
    if (block->guarded) check_guards(*block);
    if (const auto take_back = runtime(device_).take_back)
      take_back(device_, queue_on(device_), block->pointer, block->bytes);
    stats_.live_bytes -= block->bytes;
    block->free = true;
    block = merge_with_next(block);
    if (block->before && block->before->free) block = merge_with_next(take(block->before));
    free_blocks_[block->small].insert(block);
  }

  MemoryStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.live_bytes;
  }

 private:
  static void check_guards(const Block& block) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(block.pointer);
    for (size_t i = 0; i < block.bytes; ++i) {
      if (i == kGuard) i += block.guarded;
      if (i < block.bytes && bytes[i] != kGuardByte) {
        ++damaged;
        return;
      }
    }
  }

  Block* new_segment(size_t need, bool small) {
    const size_t bytes = small ? kSmallSegment : need < kLargeSegment ? kLargeSegment : need;
    void* pointer = runtime(device_).allocate(device_, bytes);
    if (!pointer) {
      release_free_segments();
      pointer = runtime(device_).allocate(device_, bytes);
    }
    if (!pointer)
      fail(ErrorKind::out_of_memory, "memory on ", device_, ": no room for ", need, " bytes with ", stats_.live_bytes,
           " in use; use a smaller batch or input size");
    stats_.reserved_bytes += bytes;
    ++stats_.device_allocations;
    auto* block = new Block;
    block->pointer = static_cast<char*>(pointer);
    block->bytes = bytes;
    block->small = small;
    return block;
  }

  void split(Block* block, size_t need) {
    auto* rest = new Block(*block);
    rest->pointer = block->pointer + need;
    rest->bytes = block->bytes - need;
    rest->free = true;
    rest->before = block;
    if (rest->after) rest->after->before = rest;
    block->after = rest;
    block->bytes = need;
    free_blocks_[rest->small].insert(rest);
  }

  Block* take(Block* block) {
    free_blocks_[block->small].erase(block);
    return block;
  }

  Block* merge_with_next(Block* block) {
    Block* next = block->after;
    if (!next || !next->free) return block;
    take_if_listed(next);
    block->bytes += next->bytes;
    block->after = next->after;
    if (block->after) block->after->before = block;
    delete next;
    return block;
  }
  void take_if_listed(Block* block) {
    auto& list = free_blocks_[block->small];
    const auto found = list.find(block);
    if (found != list.end()) list.erase(found);
  }

  void release_free_segments() {
    for (auto& list : free_blocks_)
      for (auto it = list.begin(); it != list.end();) {
        Block* block = *it;
        if (block->before || block->after) {
          ++it;
          continue;
        }
        runtime(device_).release(device_, block->pointer, block->bytes);
        stats_.reserved_bytes -= block->bytes;
        it = list.erase(it);
        delete block;
      }
  }

  Device device_;
  mutable std::mutex mutex_;
  std::set<Block*, BySize> free_blocks_[2];  // [small]
  std::unordered_map<void*, Block*> in_use_;
  MemoryStats stats_;
};

// Pools live until the process ends: tensors with static storage may outlive any other owner.
Pool& pool(Device device) {
  static std::mutex mutex;
  static auto& pools = *new std::map<std::pair<int, int>, std::unique_ptr<Pool>>;
  const std::lock_guard lock(mutex);
  auto& entry = pools[{static_cast<int>(device.kind), device.index}];
  if (!entry) entry = std::make_unique<Pool>(device);
  return *entry;
}

}  // namespace

void* allocate(Device device, size_t bytes) { return pool(device).allocate(bytes ? bytes : 1); }
void deallocate(Device device, void* pointer) noexcept {
  if (pointer) pool(device).deallocate(pointer);
}
MemoryStats memory_stats(Device device) { return pool(device).stats(); }
void reset_peak_memory(Device device) { pool(device).reset_peak(); }
void set_allocation_guards(bool on) { guards = on; }
int64_t damaged_guards() { return damaged; }

}  // namespace vtl
