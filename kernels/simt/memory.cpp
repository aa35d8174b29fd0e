#include "vtl/kernels/simt/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/sanitizer.h"

namespace vtl::emulator {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kGuard = 4096;           // before and behind a segment
constexpr size_t kLookedAt = 256;         // of the pattern beside a range that comes back
constexpr unsigned char kPattern = 0xa5;  // of what is not in use
constexpr unsigned char kPoison = 0xff;   // of what is handed out: NaN as f32 and bf16

void fill(const char* begin, const char* end, unsigned char value) {
  std::memset(const_cast<char*>(begin), value, static_cast<size_t>(end - begin));
}

}  // namespace

void* Memory::allocate(size_t bytes) {
  const size_t whole = (bytes + 2 * kGuard + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<char*>(std::aligned_alloc(kAlignment, whole));
  if (!memory) return nullptr;
  char* const segment = memory + kGuard;
  fill(memory, memory + whole, kPattern);
  forbid_access(memory, whole);
  const std::unique_lock lock(mutex_);
  segments_[segment] = {memory, whole, bytes};
  return segment;
}

void Memory::release(void* pointer) {
  const std::unique_lock lock(mutex_);
  const auto found = segments_.find(static_cast<char*>(pointer));
  if (found == segments_.end()) fail(ErrorKind::internal, "simt memory: released a pointer that is no segment");
  const auto [segment, facts] = *found;
  remove(segment, segment + facts.bytes);
  segments_.erase(found);
  allow_access(facts.memory, facts.whole);
  check_idle(facts.memory, facts.memory + facts.whole);
  std::free(facts.memory);
}

void Memory::lend(void* pointer, size_t bytes) {
  const auto* begin = static_cast<char*>(pointer);
  const std::unique_lock lock(mutex_);
  allow_access(begin, bytes);
  fill(begin, begin + bytes, kPoison);
  remove(begin, begin + bytes);
  add(begin, begin + bytes);
}

void Memory::take_back(void* pointer, size_t bytes) {
  const auto* begin = static_cast<char*>(pointer);
  const char* end = begin + bytes;
  const std::unique_lock lock(mutex_);
  const Segment* segment = segment_of(begin);
  if (!segment) return;  // released meanwhile
  check_idle(std::max<const char*>(begin - kLookedAt, segment->memory),
             std::min<const char*>(end + kLookedAt, segment->memory + segment->whole));
  remove(begin, end);
  allow_access(begin, bytes);
  fill(begin, end, kPattern);
  forbid_access(begin, bytes);
}

Range Memory::in_use(const void* address) const {
  const auto* at = static_cast<const char*>(address);
  const std::shared_lock lock(mutex_);
  const auto next = ranges_.upper_bound(at);
  if (next == ranges_.begin()) return {};
  const auto [begin, end] = *std::prev(next);
  return at < end ? Range{begin, end} : Range{};
}

bool Memory::owns(const void* address) const {
  const std::shared_lock lock(mutex_);
  return segment_of(static_cast<const char*>(address)) != nullptr;
}

std::string Memory::describe(const void* address) const {
  const auto* at = static_cast<const char*>(address);
  const std::shared_lock lock(mutex_);
  if (!segment_of(at)) return "outside the memory of the device";
  const auto next = ranges_.upper_bound(at);
  if (next != ranges_.begin()) {
    const auto [begin, end] = *std::prev(next);
    if (at < end) return concat("byte ", at - begin, " of a block of ", end - begin, " bytes");
    if (at - end < static_cast<std::ptrdiff_t>(kGuard))
      return concat(at - end, " bytes behind a block of ", end - begin, " bytes");
  }
  if (next != ranges_.end() && next->first - at < static_cast<std::ptrdiff_t>(kGuard))
    return concat(next->first - at, " bytes before a block of ", next->second - next->first, " bytes");
  return "in device memory that nobody uses";
}

void Memory::check(const char* what, const void* address, size_t bytes) const {
  if (!in_use(address).holds(address, bytes))
    fail(ErrorKind::internal, what, " of ", bytes, " bytes out of bounds: begins ", describe(address));
}

const Memory::Segment* Memory::segment_of(const char* address) const {
  const auto next = segments_.upper_bound(address + kGuard);
  if (next == segments_.begin()) return nullptr;
  const auto& [begin, facts] = *std::prev(next);
  return address < begin + facts.bytes + kGuard ? &facts : nullptr;
}

void Memory::add(const char* begin, const char* end) {
  if (begin < end) ranges_[begin] = end;
  ++version_;
}

void Memory::remove(const char* begin, const char* end) {
  auto it = ranges_.lower_bound(begin);
  if (it != ranges_.begin() && std::prev(it)->second > begin) --it;
  while (it != ranges_.end() && it->first < end) {
    const auto [first, last] = *it;
    it = ranges_.erase(it);
    if (first < begin) ranges_[first] = begin;
    if (last > end) ranges_[end] = last;
  }
  ++version_;
}

void Memory::check_idle(const char* begin, const char* end) {
  if (kAddressSanitizer) return;  // which has seen the access itself
  const auto check = [this](const char* from, const char* to) {
    for (; from < to; ++from)
      if (static_cast<unsigned char>(*from) != kPattern)
        return note_damage("simt memory: something wrote outside its block: what lies beside a block is damaged");
  };
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin() && std::prev(it)->second > begin) --it;
  for (; it != ranges_.end() && it->first < end; ++it) {
    check(begin, it->first);
    begin = it->second;
  }
  check(begin, end);
}

void Memory::note_damage(const std::string& what) {
  const std::lock_guard lock(damage_mutex_);
  if (damage_.empty()) damage_ = what;
}

void Memory::report_damage() {
  const std::lock_guard lock(damage_mutex_);
  if (damage_.empty()) return;
  throw Error(ErrorKind::internal, std::exchange(damage_, {}));
}

Memory& memory() {
  // Never destroyed: the allocator's pools outlive everything, too.
  static auto& one = *new Memory;
  return one;
}

}  // namespace vtl::emulator
