#include "vtl/kernels/simt/trace/race_shadow.h"

#include <algorithm>

namespace vtl::emulator {

void RaceShadow::block_begins() {
  ++block_;
  barrier_ = ++time_;
}

void RaceShadow::warp_barrier(unsigned warp, uint32_t lanes) {
  ++time_;
  if (lanes == ~0u) {
    warp_[warp] = time_;
    return;
  }
  for (unsigned i = 0; i < 32; ++i)
    for (unsigned j = 0; j < 32; ++j)
      if (lanes >> i & lanes >> j & 1u) pair_[warp][i][j] = time_;
}

RaceShadow::Cell& RaceShadow::cell(uint64_t address) {
  if (!last_ || address / kPage != last_page_) {
    last_page_ = address / kPage;
    auto& page = pages_[last_page_];
    if (!page) page = std::make_unique<Cell[]>(kPage);
    last_ = page.get();
  }
  return last_[address % kPage];
}

bool RaceShadow::ordered(const Touch& touch, unsigned thread) const {
  if (touch.who == kNobody || touch.block < launch_) return true;
  if (touch.block != block_) return false;
  if (touch.time < barrier_) return true;
  if (touch.who & kMany) return false;
  const unsigned other = touch.who & kThread, warp = thread / 32;
  if (other / 32 != warp) return false;
  if (touch.time < warp_[warp]) return true;
  if (touch.who & kManyInWarp) return false;
  return other == thread || touch.time < pair_[warp][other % 32][thread % 32];
}

bool RaceShadow::touch(uint64_t address, unsigned thread, AccessKind kind, uint32_t site, Race& race) {
  Cell& at = cell(address);
  const bool writes = kind != AccessKind::read, atomic = kind == AccessKind::atomic;
  const Touch now{block_, time_, site, static_cast<uint16_t>(thread | (atomic ? kAtomic : 0))};
  const bool both_atomic = atomic && at.write.who != kNobody && (at.write.who & kAtomic);
  bool found = false;
  if (!both_atomic && !ordered(at.write, thread)) {
    race = {at.write.site, site, true, writes};
    found = true;
  } else if (writes && !ordered(at.read, thread)) {
    race = {at.read.site, site, false, true};
    found = true;
  }
  if (writes) {
    at.write = now;
    return found;
  }
  // Of several readers, who is remembered stands for all: a writer would race with each of them. A reader in another
  // block stays: whoever writes now races with it.
  Touch reader = now;
  if (!ordered(at.read, thread)) {
    if (at.read.block != block_) return found;
    const bool same_warp = !(at.read.who & kMany) && (at.read.who & kThread) / 32 == thread / 32;
    reader.who = static_cast<uint16_t>(same_warp ? kManyInWarp | thread : kMany);
  }
  at.read = reader;
  return found;
}

}  // namespace vtl::emulator
