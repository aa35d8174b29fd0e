#include "vtl/kernels/simt/access.h"

#include <cstring>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/memory.h"

namespace vtl::emulator {
namespace {

const char* name(AccessKind kind) {
  switch (kind) {
    case AccessKind::read:
      return "read";
    case AccessKind::write:
      return "write";
    case AccessKind::atomic:
      return "atomic access";
    case AccessKind::landing:
      return "asynchronous write";
  }
  return "?";
}

// The ranges of device memory that this OS thread touched last. A kernel has a handful of arrays.
class RangeCache {
 public:
  bool holds(const void* address, size_t bytes) {
    const uint64_t now = memory().version();
    if (now != version_) {
      for (auto& range : ranges_) range = {};
      version_ = now;
    }
    for (const auto& range : ranges_)
      if (range.holds(address, bytes)) return true;
    const Range found = memory().in_use(address);
    if (!found.holds(address, bytes)) return false;
    ranges_[next_++ % kRanges] = found;
    return true;
  }

 private:
  static constexpr size_t kRanges = 8;
  Range ranges_[kRanges];
  size_t next_ = 0;
  uint64_t version_ = 0;
};

std::string problem_with_shared(AccessKind kind, const void* address, size_t bytes) {
  const SharedMemory& shared = current->block->shared();
  if (!shared.in_bounds(address, bytes))
    return concat(name(kind), " of ", bytes, " bytes outside the arrays of shared memory, at offset ",
                  shared.offset(address));
  if (shared.pending(address, bytes))
    return concat(name(kind), " of shared memory that an asynchronous copy has still to write: wait for it");
  return {};
}

}  // namespace

std::string problem_with(AccessKind kind, const void* address, size_t bytes) {
  static thread_local RangeCache cache;
  const Block& block = *current->block;
  if (block.shared().contains(address)) return problem_with_shared(kind, address, bytes);
  if (cache.holds(address, bytes) || block.on_a_stack(address)) return {};
  return concat(name(kind), " of ", bytes, " bytes out of bounds: begins ", memory().describe(address));
}

void check_access(AccessKind kind, const void* address, size_t bytes, size_t alignment, Site site) {
  Thread& me = *current;
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (at % alignment)
    me.block->stop(me, site,
                   concat("misaligned ", name(kind), " of ", bytes, " bytes: the address ends in ", at % 16,
                          ", expected a multiple of ", alignment));
  if (++me.accesses > settings().most_accesses)
    me.block->stop(
        me, site,
        concat(settings().most_accesses, " accesses of one thread: does it spin, waiting for another block?"));
  if (const std::string problem = problem_with(kind, address, bytes); !problem.empty())
    me.block->stop(me, site, problem);
  if (auto* observer = settings().observer)
    observer->access(me.warp, me.lane, {address, static_cast<uint32_t>(bytes), kind, site});
}

void read(void* to, const void* from, size_t bytes, size_t alignment, Site site) {
  check_access(AccessKind::read, from, bytes, alignment, site);
  std::memcpy(to, from, bytes);
}

void write(void* to, const void* from, size_t bytes, size_t alignment, Site site) {
  check_access(AccessKind::write, to, bytes, alignment, site);
  std::memcpy(to, from, bytes);
}

void async_copy(const AsyncCopy& copy) {
  Thread& me = *current;
  Block& block = *me.block;
  if (copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16)
    block.stop(me, copy.site, concat("an asynchronous copy of ", copy.bytes, " bytes; 4, 8 and 16 exist"));
  if (!block.shared().contains(copy.to))
    block.stop(me, copy.site, "an asynchronous copy that does not go to shared memory");
  check_access(AccessKind::write, copy.to, copy.bytes, copy.bytes, copy.site);
  if (copy.taken) check_access(AccessKind::read, copy.from, copy.taken, copy.bytes, copy.site);
  block.shared().expect(copy.to, copy.bytes);
  me.copies.push_back(copy);
}

void async_commit() {
  size_t before = 0;
  for (const size_t count : current->committed) before += count;
  current->committed.push_back(current->copies.size() - before);
}

void async_wait(unsigned pending) {
  Thread& me = *current;
  while (me.committed.size() > pending) {
    const size_t count = me.committed.front();
    for (size_t i = 0; i < count; ++i) {
      const AsyncCopy& copy = me.copies[i];
      std::memcpy(copy.to, copy.from, copy.taken);
      std::memset(static_cast<char*>(copy.to) + copy.taken, 0, copy.bytes - copy.taken);
      me.block->shared().arrived(copy.to, copy.bytes);
      if (auto* observer = settings().observer)
        observer->access(me.warp, me.lane, {copy.to, copy.bytes, AccessKind::landing, copy.site});
    }
    me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<std::ptrdiff_t>(count));
    me.committed.erase(me.committed.begin());
  }
}

}  // namespace vtl::emulator
