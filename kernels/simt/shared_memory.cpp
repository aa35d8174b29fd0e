#include "vtl/kernels/simt/shared_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "vtl/kernels/simt/sanitizer.h"

namespace vtl::emulator {
namespace {

constexpr unsigned char kPattern = 0xa5, kPoison = 0xff;
constexpr size_t kPage = 1024;  // the strictest alignment that a kernel may ask of dynamic memory

size_t round_up(size_t value, size_t to) { return (value + to - 1) / to * to; }

}  // namespace

SharedMemory::SharedMemory()
    : memory_(static_cast<char*>(std::aligned_alloc(kPage, round_up(kArena, kPage)))), pending_(kArena / kGranule) {
  if (!memory_) throw std::bad_alloc();
}

SharedMemory::~SharedMemory() {
  allow_access(memory_, kArena);
  std::free(memory_);
}

void SharedMemory::begin(size_t dynamic_bytes) {
  if (pending_count_) {
    std::fill(pending_.begin(), pending_.end(), uint8_t{0});
    pending_count_ = 0;
  }
  arrays_.clear();
  end_ = static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  forbid_access(memory_, kArena);
  add(nullptr, dynamic_bytes);
}

void* SharedMemory::array(const void* key, size_t bytes) {
  for (const auto& array : arrays_)
    if (array.key == key) return memory_ + array.begin;
  if (static_bytes_ + bytes > kMostStatic) return nullptr;
  static_bytes_ += bytes;
  add(key, bytes);
  return memory_ + arrays_.back().begin;
}

void SharedMemory::add(const void* key, size_t bytes) {
  char* const begin = memory_ + end_;
  const size_t next = round_up(bytes, kAlignment) + kGap;
  allow_access(begin, bytes);
  std::memset(begin, kPoison, bytes);
  if (!kAddressSanitizer) std::memset(begin + bytes, kPattern, next - bytes);
  arrays_.push_back({key, end_, bytes});
  end_ += next;
}

bool SharedMemory::in_bounds(const void* address, size_t bytes) const {
  const size_t at = offset(address);
  for (const auto& array : arrays_)
    if (at >= array.begin && at + bytes <= array.begin + array.bytes) return true;
  return false;
}

bool SharedMemory::gaps_intact() const {
  if (kAddressSanitizer) return true;  // which has seen the access itself
  for (const auto& array : arrays_)
    for (size_t i = array.begin + array.bytes; i < round_up(array.begin + array.bytes, kAlignment) + kGap; ++i)
      if (static_cast<unsigned char>(memory_[i]) != kPattern) return false;
  return true;
}

void SharedMemory::count_pending(const void* address, size_t bytes, int by) {
  for (size_t i = 0; i < bytes / kGranule; ++i) {
    pending_[offset(address) / kGranule + i] = static_cast<uint8_t>(pending_[offset(address) / kGranule + i] + by);
    pending_count_ += static_cast<size_t>(by);
  }
}

bool SharedMemory::pending(const void* address, size_t bytes) const {
  if (!pending_count_) return false;
  const size_t first = offset(address) / kGranule, last = (offset(address) + bytes - 1) / kGranule;
  for (size_t i = first; i <= last; ++i)
    if (pending_[i]) return true;
  return false;
}

}  // namespace vtl::emulator
