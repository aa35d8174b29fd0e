#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "vtl/core/runtime.h"

namespace vtl {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

void* allocate(Device, size_t bytes) {
  if (bytes < kHugePage) return std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  // Whole huge pages: a training step touches hundreds of megabytes, and 4 KiB pages cost it in faults and in TLB misses.
  void* pointer = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
#if defined(MADV_HUGEPAGE)
  if (pointer) madvise(pointer, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return pointer;
}

void release(Device, void* pointer, size_t) { std::free(pointer); }
void* create_queue(Device) { return nullptr; }
void destroy_queue(Device, void*) {}
void synchronize(Device, void*) {}
void copy(Device, void*, void* to, const void* from, size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}
void zero(Device, void*, void* to, size_t bytes) {
  if (bytes) std::memset(to, 0, bytes);
}

}  // namespace

const Runtime* cpu_runtime() {
  static constexpr Runtime table{allocate, release, create_queue, destroy_queue, synchronize, copy, copy, copy, zero};
  return &table;
}

}  // namespace vtl
