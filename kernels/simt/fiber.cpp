#include "vtl/kernels/simt/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

#include "vtl/kernels/simt/sanitizer.h"

#if defined(__x86_64__)
// void vtl_simt_change(void** save, void* load): what the calling convention lets a call change is the caller's
// business; the other registers go onto the stack that is left.
asm(R"(
.text
.type vtl_simt_change,@function
vtl_simt_change:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vtl_simt_change,.-vtl_simt_change
)");
extern "C" void vtl_simt_change(void** save, void* load) __attribute__((visibility("hidden")));
#endif

namespace vtl::emulator {
namespace {

constexpr uint64_t kCanary = 0x5afe57ac5afe57ac;
// The threads of a warp use the same depth of their stacks at the same time. Moved apart, they do not fight for the
// same cache set.
constexpr size_t kColours = 32, kColour = 128;
// What a thread that has ended leaves on its stack: the frames of the emulator, never those of the kernel.
constexpr size_t kLeftover = size_t{8} << 10;

}  // namespace

#if defined(__x86_64__)
void Fiber::prepare(void* stack, size_t bytes, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  const auto top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15};
  auto** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // entry's return address: none. It also aligns the stack as a call would have.
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--slot = nullptr;
  stack_pointer_ = slot;
}

void Fiber::change(Fiber& from, Fiber& to) { vtl_simt_change(&from.stack_pointer_, to.stack_pointer_); }
#else
void Fiber::prepare(void* stack, size_t bytes, void (*entry)()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void Fiber::change(Fiber& from, Fiber& to) { swapcontext(&from.context_, &to.context_); }
#endif

FiberStacks::FiberStacks(size_t count) : count_(count) {
  void* memory =
      mmap(nullptr, (count + 1) * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
}

FiberStacks::~FiberStacks() {
  forget();
  munmap(memory_, (count_ + 1) * kBytes);
}

void FiberStacks::prepare(Fiber& fiber, size_t i, void (*entry)()) {
  std::memcpy(stack(i), &kCanary, sizeof kCanary);
  const size_t usable = kBytes - i % kColours * kColour;
  allow_access(stack(i) + usable - kLeftover, kLeftover);
  fiber.prepare(stack(i), usable, entry);
}

bool FiberStacks::contains(size_t i, const void* address) const {
  const auto at = static_cast<const char*>(address);
  return at >= stack(i) && at < stack(i) + kBytes;
}

bool FiberStacks::overflowed(size_t i) const { return std::memcmp(stack(i), &kCanary, sizeof kCanary) != 0; }

void FiberStacks::forget() { allow_access(memory_, (count_ + 1) * kBytes); }

}  // namespace vtl::emulator
