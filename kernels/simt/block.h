// One block of threads on one OS thread: who runs, who waits for whom. Barriers and warp operations are rendezvous; the
// last thread to arrive completes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "vtl/kernels/simt/fiber.h"
#include "vtl/kernels/simt/launch.h"
#include "vtl/kernels/simt/observer.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/kernels/simt/shared_memory.h"
#include "vtl/kernels/simt/site.h"

namespace vtl::emulator {

class Block;
struct WarpOperation;

inline constexpr unsigned kWarpLanes = 32;
inline constexpr uint32_t kAllLanes = ~0u;

// cp.async, to shared memory: `taken` bytes from `from`, zeros up to `bytes`.
struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes, taken;
  Site site;
};

// A CUDA thread.
struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  dim3 index;
  unsigned number = 0, warp = 0, lane = 0;
  uint64_t accesses = 0;  // checked ones
  // The rendezvous at which it waits: of its warp (operation is set) or of its block.
  const WarpOperation* operation = nullptr;
  void* operands = nullptr;
  uint32_t mask = 0;
  Site site;
  std::vector<AsyncCopy> copies;  // not waited for, oldest first
  std::vector<size_t> committed;  // the number of copies in each committed group, oldest first
};

// The thread that runs on this OS thread.
inline constinit thread_local Thread* current = nullptr;

// What the lanes of a warp do together. complete() finds the operands of every lane in `lanes` where they have put
// them, and leaves the results there.
struct WarpOperation {
  const char* name;
  bool whole_warp;  // undefined unless all 32 lanes take part (.aligned)
  void (*complete)(Block& block, unsigned warp, uint32_t lanes);
};

class Block {
 public:
  Block();

  // Runs one block of the grid to its end. False when a thread did something wrong: error() says what.
  bool run(const LaunchShape& shape, dim3 index, const std::function<void()>& body);
  const std::string& error() const { return error_; }

  const LaunchShape& shape() const { return *shape_; }
  const dim3& index() const { return index_; }
  SharedMemory& shared() { return shared_; }
  const SharedMemory& shared() const { return shared_; }
  Thread& thread(unsigned warp, unsigned lane) { return threads_[warp * kWarpLanes + lane]; }
  bool on_a_stack(const void* address) const { return stacks_.contains(current->number, address); }

  // The rest is called by the running thread.
  void wait_for_block(Site site);
  void wait_for_warp(const WarpOperation& operation, void* operands, uint32_t mask, Site site);
  // Ends the block: `thread`, which is `current` or a lane of its warp, did something wrong. Does not return.
  void stop(const Thread& thread, const Site& site, const std::string& what);

 private:
  // Lanes by what they do; each that exists is in one.
  struct Warp {
    uint32_t exist = 0, ready = 0, at_operation = 0, at_barrier = 0, ended = 0;
  };

  static void run_thread();
  void end_thread();
  void begin(const LaunchShape& shape, dim3 index, const std::function<void()>& body);
  // Completes the operation that these lanes have all arrived at; false while one is missing.
  bool complete(unsigned warp, uint32_t mask);
  void release_barrier();
  // The running thread cannot go on: to another lane of its warp that can, or to the scheduler.
  void give_way();
  void yield_to_scheduler();
  void go(Thread& next);
  unsigned pick_lane(uint32_t ready, unsigned after) const;
  int pick_warp(int last) const;
  void explain_stuck();
  void set_error(const Thread& thread, const Site& site, const std::string& what);

  FiberStacks stacks_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  Warp warps_[32];
  Fiber scheduler_;

  const LaunchShape* shape_ = nullptr;
  const std::function<void()>* body_ = nullptr;
  dim3 index_;
  Schedule schedule_ = Schedule::lock_step;
  Observer* observer_ = nullptr;
  unsigned count_ = 0, warp_count_ = 0;  // threads, warps
  unsigned waiting_ = 0, ended_ = 0;     // threads at the barrier, threads that have ended
  std::string error_;
};

// ---- what kernels call ----------------------------------------------------------------------------------------------
inline void sync_block(Site site) { current->block->wait_for_block(site); }
void sync_warp(uint32_t mask, Site site);

// The array that the declaration `key` stands for. The key is the address of a static variable beside it.
void* shared_array(const void* key, size_t bytes, Site site);
inline void* shared_dynamic() { return current->block->shared().dynamic(); }

}  // namespace vtl::emulator
