#include "vtl/kernels/simt/block.h"

#include <bit>
#include <cstdlib>
#include <exception>

#include "vtl/core/error.h"

namespace vtl::emulator {
namespace {

constexpr unsigned kMostThreads = 1024;

const WarpOperation kSyncWarp{"__syncwarp", false, [](Block&, unsigned warp, uint32_t lanes) {
                                if (auto* observer = settings().observer) observer->warp_barrier(warp, lanes);
                              }};

std::string place(const Thread& thread) { return concat("thread ", to_string(thread.index)); }

}  // namespace

Block::Block() : stacks_(kMostThreads), threads_(kMostThreads) {
  for (unsigned i = 0; i < kMostThreads; ++i) {
    threads_[i].block = this;
    threads_[i].number = i;
    threads_[i].warp = i / kWarpLanes;
    threads_[i].lane = i % kWarpLanes;
  }
}

bool Block::run(const LaunchShape& shape, dim3 index, const std::function<void()>& body) {
  begin(shape, index, body);
  if (observer_) observer_->block_begins(*this);
  int warp = -1;
  while (ended_ < count_ && error_.empty()) {
    warp = pick_warp(warp);
    if (warp < 0) {
      explain_stuck();
      break;
    }
    const unsigned lane = pick_lane(warps_[warp].ready, kWarpLanes);
    current = &thread(static_cast<unsigned>(warp), lane);
    Fiber::change(scheduler_, current->fiber);
  }
  current = nullptr;
  if (error_.empty() && !shared_.gaps_intact())
    error_ =
        concat(shape.kernel, ", block ", to_string(index), ": something wrote outside the arrays of shared memory");
  if (!error_.empty()) stacks_.forget();
  if (observer_) observer_->block_ends();
  return error_.empty();
}

void Block::begin(const LaunchShape& shape, dim3 index, const std::function<void()>& body) {
  shape_ = &shape;
  body_ = &body;
  index_ = index;
  schedule_ = settings().schedule;
  observer_ = settings().observer;
  count_ = static_cast<unsigned>(volume(shape.block));
  warp_count_ = (count_ + kWarpLanes - 1) / kWarpLanes;
  waiting_ = ended_ = 0;
  error_.clear();
  shared_.begin(shape.shared_bytes);
  for (unsigned w = 0; w < warp_count_; ++w) {
    const unsigned lanes = std::min(kWarpLanes, count_ - w * kWarpLanes);
    const uint32_t all = lanes == kWarpLanes ? kAllLanes : (1u << lanes) - 1;
    warps_[w] = {.exist = all, .ready = all};
  }
  const dim3& size = shape.block;
  for (unsigned i = 0; i < count_; ++i) {
    Thread& t = threads_[i];
    t.index = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
    t.operation = nullptr;
    t.accesses = 0;
    t.copies.clear();
    t.committed.clear();
    stacks_.prepare(t.fiber, i, &Block::run_thread);
  }
}

void Block::run_thread() {
  std::string thrown;
  try {
    (*current->block->body_)();
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  if (!thrown.empty()) current->block->stop(*current, {}, concat("a kernel throws nothing, this one: ", thrown));
  current->block->end_thread();
  std::abort();  // nobody comes back to a thread that has ended
}

void Block::end_thread() {
  Thread& me = *current;
  if (!me.copies.empty())
    stop(me, me.copies.front().site, "the thread ended without waiting for this asynchronous copy");
  if (stacks_.overflowed(me.number)) stop(me, {}, concat("the stack of ", FiberStacks::kBytes, " bytes was too small"));
  Warp& warp = warps_[me.warp];
  warp.ready &= ~(1u << me.lane);
  warp.ended |= 1u << me.lane;
  ++ended_;
  // Those who waited for this lane may have been waiting for nobody else.
  for (uint32_t rest = warp.at_operation; rest; rest &= rest - 1)
    if (complete(me.warp, thread(me.warp, static_cast<unsigned>(std::countr_zero(rest))).mask)) break;
  give_way();
}

void Block::wait_for_block(Site site) {
  Thread& me = *current;
  Warp& warp = warps_[me.warp];
  me.operation = nullptr;
  me.site = site;
  warp.ready &= ~(1u << me.lane);
  warp.at_barrier |= 1u << me.lane;
  if (++waiting_ == count_) release_barrier();
  give_way();
}

void Block::release_barrier() {
  for (unsigned i = 0; i < count_; ++i)
    if (!same_place(threads_[i].site, current->site))
      stop(threads_[i], threads_[i].site,
           concat("divergent barrier: ", place(*current), " is at the barrier at ", describe(current->site)));
  waiting_ = 0;
  for (unsigned w = 0; w < warp_count_; ++w) {
    warps_[w].ready = warps_[w].at_barrier;
    warps_[w].at_barrier = 0;
  }
  if (observer_) observer_->block_barrier();
}

void Block::wait_for_warp(const WarpOperation& operation, void* operands, uint32_t mask, Site site) {
  Thread& me = *current;
  Warp& warp = warps_[me.warp];
  const uint32_t bit = 1u << me.lane;
  if (!(mask & bit))
    stop(me, site, concat(operation.name, ": the calling lane ", me.lane, " is not named in its own mask"));
  me.operation = &operation;
  me.operands = operands;
  me.mask = mask;
  me.site = site;
  warp.ready &= ~bit;
  warp.at_operation |= bit;
  if (!complete(me.warp, mask))
    give_way();
  else if (schedule_ == Schedule::lock_step && warp_count_ > 1)
    yield_to_scheduler();
}

bool Block::complete(unsigned w, uint32_t mask) {
  Warp& warp = warps_[w];
  const uint32_t lanes = mask & warp.exist & ~warp.ended;
  if (lanes & ~warp.at_operation) return false;
  const Thread& first = thread(w, static_cast<unsigned>(std::countr_zero(lanes)));
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const Thread& t = thread(w, static_cast<unsigned>(std::countr_zero(rest)));
    if (t.mask != mask) return false;
    if (t.operation != first.operation || !same_place(t.site, first.site))
      stop(t, t.site,
           concat("divergent warp: this lane is at ", t.operation->name, ", ", place(first), " at ",
                  first.operation->name, ", ", describe(first.site)));
  }
  if (first.operation->whole_warp && lanes != kAllLanes)
    stop(first, first.site, concat(first.operation->name, " by part of a warp: all 32 lanes have to take part"));
  first.operation->complete(*this, w, lanes);
  warp.at_operation &= ~lanes;
  warp.ready |= lanes;
  return true;
}

void Block::give_way() {
  const uint32_t ready = warps_[current->warp].ready;
  if (ready)
    go(thread(current->warp, pick_lane(ready, current->lane)));
  else
    yield_to_scheduler();
}

void Block::go(Thread& next) {
  Thread& me = *current;
  if (&next == &me) return;
  current = &next;
  Fiber::change(me.fiber, next.fiber);
}

void Block::yield_to_scheduler() { Fiber::change(current->fiber, scheduler_); }

// The next lane that can go on, around the warp; kWarpLanes begins a round.
unsigned Block::pick_lane(uint32_t ready, unsigned after) const {
  if (schedule_ == Schedule::lock_step) {
    const uint32_t higher = after >= kWarpLanes - 1 ? 0 : ready >> (after + 1) << (after + 1);
    return static_cast<unsigned>(std::countr_zero(higher ? higher : ready));
  }
  const uint32_t lower = after >= kWarpLanes ? 0 : ready & ((1u << after) - 1);
  return 31u - static_cast<unsigned>(std::countl_zero(lower ? lower : ready));
}

int Block::pick_warp(int last) const {
  const int count = static_cast<int>(warp_count_);
  if (schedule_ == Schedule::greedy) {
    if (last >= 0 && warps_[last].ready) return last;
    for (int w = count - 1; w >= 0; --w)
      if (warps_[w].ready) return w;
    return -1;
  }
  for (int i = 1; i <= count; ++i)
    if (warps_[(last + i) % count].ready) return (last + i) % count;
  return -1;
}

void Block::stop(const Thread& thread, const Site& site, const std::string& what) {
  set_error(thread, site, what);
  yield_to_scheduler();  // which never comes back; nothing on this stack needs an end
}

void Block::set_error(const Thread& thread, const Site& site, const std::string& what) {
  error_ = concat(shape_->kernel, ", block ", to_string(index_), ", ", place(thread),
                  site.line() ? ", " + describe(site) : std::string(), ": ", what);
}

// Nobody can go on. Names a thread that waits, and what it waits for.
void Block::explain_stuck() {
  const Thread* gone = nullptr;  // threads that others wait for in vain
  const Thread* at_barrier = nullptr;
  const Thread* at_operation = nullptr;
  for (unsigned i = 0; i < count_; ++i) {
    const Thread& t = threads_[i];
    const Warp& warp = warps_[t.warp];
    const uint32_t bit = 1u << t.lane;
    if ((warp.ended & bit) && !gone) gone = &t;
    if ((warp.at_barrier & bit) && !at_barrier) at_barrier = &t;
    if ((warp.at_operation & bit) && !at_operation) at_operation = &t;
  }
  if (at_operation) {
    const uint32_t missing = at_operation->mask & ~warps_[at_operation->warp].at_operation;
    const Thread* other = at_barrier;
    for (unsigned lane = 0; lane < kWarpLanes; ++lane)
      if (missing >> lane & 1u & warps_[at_operation->warp].at_barrier >> lane)
        other = &thread(at_operation->warp, lane);
    const std::string where = other ? concat(place(*other), " waits at the barrier at ", describe(other->site))
                                    : "lanes of its mask wait with other masks";
    set_error(*at_operation, at_operation->site,
              concat("divergent warp: ", at_operation->operation->name, " waits for lanes that never come; ", where));
  } else if (at_barrier) {
    set_error(*at_barrier, at_barrier->site,
              concat("divergent barrier: ", waiting_, " of ", count_, " threads wait here; ",
                     gone ? concat(place(*gone), " has left the kernel") : std::string("the others do not come")));
  }
}

void sync_warp(uint32_t mask, Site site) { current->block->wait_for_warp(kSyncWarp, nullptr, mask, site); }

void* shared_array(const void* key, size_t bytes, Site site) {
  Block& block = *current->block;
  void* array = block.shared().array(key, bytes);
  if (!array)
    block.stop(*current, site,
               concat("static shared memory over ", SharedMemory::kMostStatic, " bytes; use dynamic memory"));
  const size_t used = block.shared().bytes_used(), limit = settings().shared_limit;
  if (used > limit)
    block.stop(*current, site, concat("shared memory of ", used, " bytes, the device has ", limit, " for a block"));
  return array;
}

}  // namespace vtl::emulator
