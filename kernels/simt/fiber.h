// Stacks that take turns on one OS thread: every CUDA thread of a block runs on one.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace vtl::emulator {

class Fiber {
 public:
  // The first switch to it calls entry(), which must not return, on `stack` (its lowest address, `bytes` long).
  void prepare(void* stack, size_t bytes, void (*entry)());

  // Leaves `from`, on which the caller runs, for `to`; returns when somebody switches back to `from`. Both belong to
  // the calling OS thread.
  static void change(Fiber& from, Fiber& to);

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

// Memory for the stacks of one block. What is not touched costs nothing.
class FiberStacks {
 public:
  static constexpr size_t kBytes = size_t{128} << 10;  // of each

  explicit FiberStacks(size_t count);
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  // Prepares `fiber` on stack `i`.
  void prepare(Fiber& fiber, size_t i, void (*entry)());
  bool contains(size_t i, const void* address) const;
  // Something has written below the stack.
  bool overflowed(size_t i) const;
  // Stacks were left in the middle of their functions: nothing that sanitizers remember of them holds any more.
  void forget();

 private:
  // The first has room below it, too, for what an overflow writes before it is noticed.
  char* stack(size_t i) const { return memory_ + (i + 1) * kBytes; }

  size_t count_;
  char* memory_;
};

}  // namespace vtl::emulator
