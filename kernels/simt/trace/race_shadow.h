// Who touched each byte last, and whether what it did is ordered before what happens now. Barriers of the block order
// all its threads, __syncwarp the lanes of its mask; nothing orders two blocks of one launch.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "vtl/kernels/simt/observer.h"

namespace vtl::emulator {

class RaceShadow {
 public:
  // Two places, by their numbers, and what they did.
  struct Race {
    uint32_t earlier, later;
    bool earlier_writes, later_writes;
  };

  void launch_begins() { launch_ = block_ + 1; }
  void block_begins();
  void block_barrier() { barrier_ = ++time_; }
  void warp_barrier(unsigned warp, uint32_t lanes);

  // Thread `thread` of the block touches a byte at the place `site`. True when that is a race.
  bool touch(uint64_t address, unsigned thread, AccessKind kind, uint32_t site, Race& race);

 private:
  static constexpr uint16_t kNobody = 0xffff, kManyInWarp = 0x8000, kMany = 0x4000, kAtomic = 0x2000, kThread = 0x3ff;
  struct Touch {
    uint32_t block = 0, time = 0, site = 0;
    uint16_t who = kNobody;  // a thread (with kAtomic), kManyInWarp and a thread of the warp, or kMany
  };
  struct Cell {
    Touch write, read;
  };
  static constexpr uint64_t kPage = 4096;

  Cell& cell(uint64_t address);
  // Nothing to fear from `touch` for what `thread` does now.
  bool ordered(const Touch& touch, unsigned thread) const;

  std::unordered_map<uint64_t, std::unique_ptr<Cell[]>> pages_;
  Cell* last_ = nullptr;
  uint64_t last_page_ = 0;
  uint32_t launch_ = 1, block_ = 0;  // the first block of the launch, this block; numbers never come again
  uint32_t time_ = 0, barrier_ = 0;  // grows with every barrier; the time of the block's last
  uint32_t warp_[32] = {};           // the time of the warp's last barrier of all lanes
  uint32_t pair_[32][32][32] = {};   // [warp][lane][lane]: of their last common one, where it was not of all
};

}  // namespace vtl::emulator
