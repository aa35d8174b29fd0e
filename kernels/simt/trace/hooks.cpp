// What the compiler calls for every access of a text that was compiled with -fsanitize=thread: our own runtime, in the
// place of libtsan. Accesses of kernels are checked for bounds and shown to the observer; all others are nobody's
// business.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/access.h"
#include "vtl/kernels/simt/memory.h"
#include "vtl/kernels/simt/trace/symbols.h"

namespace vtl::emulator {
namespace {

// Instrumented copies of inline functions may be the ones that the linker kept, so hooks may call hooks.
constinit thread_local bool inside = false;

// Pages of the host that were looked up before: most accesses of a kernel that are not on its stack are to the
// emulator's own state (threadIdx).
class HostPages {
 public:
  bool holds(const void* address) {
    const uint64_t now = memory().version();
    const uintptr_t page = reinterpret_cast<uintptr_t>(address) / kPage;
    uintptr_t& known = pages_[page % kKnown];
    if (now != version_) {
      std::fill(std::begin(pages_), std::end(pages_), 0);
      version_ = now;
    }
    if (known == page) return true;
    if (memory().owns(address)) return false;
    known = page;
    return true;
  }

 private:
  static constexpr size_t kPage = 64, kKnown = 1024;  // segments begin and end with guard zones of more than a page
  uintptr_t pages_[kKnown] = {};
  uint64_t version_ = 0;
};

std::string problem_of(const void* address, size_t bytes, AccessKind kind, const void* instruction) {
  static thread_local HostPages host;
  if (!current->block->shared().contains(address) && host.holds(address)) return {};
  std::string problem = problem_with(kind, address, bytes);
  if (!problem.empty()) return concat(place_of(instruction), ": ", problem);
  settings().observer->access(current->warp, current->lane,
                              {address, static_cast<uint32_t>(bytes), kind, {}, instruction});
  return {};
}

void hook(const void* address, size_t bytes, AccessKind kind, const void* instruction) {
  if (!current || inside || !settings().observer || current->block->on_a_stack(address)) return;
  inside = true;
  const std::string problem = problem_of(address, bytes, kind, instruction);
  inside = false;
  if (!problem.empty()) current->block->stop(*current, {}, problem);
}

}  // namespace
}  // namespace vtl::emulator

using vtl::emulator::AccessKind;
using vtl::emulator::hook;
#define VTL_HOOK(name, bytes, kind) \
  void name(void* address) { hook(address, bytes, AccessKind::kind, __builtin_return_address(0)); }
#define VTL_HOOKS(bytes)                              \
  VTL_HOOK(__tsan_read##bytes, bytes, read)           \
  VTL_HOOK(__tsan_write##bytes, bytes, write)         \
  VTL_HOOK(__tsan_unaligned_read##bytes, bytes, read) \
  VTL_HOOK(__tsan_unaligned_write##bytes, bytes, write)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
VTL_HOOKS(1)
VTL_HOOKS(2)
VTL_HOOKS(4)
VTL_HOOKS(8)
VTL_HOOKS(16)
void __tsan_read_range(void* address, size_t bytes) {
  hook(address, bytes, AccessKind::read, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  hook(address, bytes, AccessKind::write, __builtin_return_address(0));
}

// Atomics of kernels are shown by their wrappers; these only have to happen. (Those of 32 bits: kernels have no others,
// and the library's counts of references have none.)
int __tsan_atomic32_load(const volatile int* at, int) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
int __tsan_atomic32_fetch_add(volatile int* at, int value, int) {
  return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
int __tsan_atomic32_compare_exchange_weak(volatile int* at, int* expected, int value, int, int) {
  return __atomic_compare_exchange_n(at, expected, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
int __tsan_atomic32_compare_exchange_strong(volatile int* at, int* expected, int value, int, int) {
  return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
}
