// The memory of the emulated device. It knows which bytes are in use; what lies between keeps a pattern, is forbidden
// under the address sanitizer, and is looked at when its neighbour comes back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>

namespace vtl::emulator {

struct Range {
  const char* begin = nullptr;
  const char* end = nullptr;

  bool holds(const void* address, size_t bytes) const {
    const auto at = static_cast<const char*>(address);
    return at >= begin && at <= end && bytes <= static_cast<size_t>(end - at);
  }
};

class Memory {
 public:
  // A segment between guard zones, aligned to 256 bytes, of which nothing is in use yet; null when there is no memory.
  void* allocate(size_t bytes);
  void release(void* segment);

  // [pointer, pointer + bytes) is in use from now on and holds bytes 0xff (NaN), so that nothing stale can be read.
  void lend(void* pointer, size_t bytes);
  // It is no longer. The pattern is looked at, before, behind and where something within was not in use.
  void take_back(void* pointer, size_t bytes);

  // The range in use around `address`; empty when there is none.
  Range in_use(const void* address) const;
  // Inside some segment, in use or not.
  bool owns(const void* address) const;
  // Where `address` lies, in words, for an error: "4 bytes behind a block of 1024 bytes".
  std::string describe(const void* address) const;
  // Throws unless all of the range is in use. `what` begins the message.
  void check(const char* what, const void* address, size_t bytes) const;

  // Damage is found where nothing may throw: it is noted, and the next call that may throws it.
  void note_damage(const std::string& what);
  void report_damage();

  // Grows whenever ranges change: what in_use() said before may be wrong.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  struct Segment {
    char* memory;
    size_t whole;  // bytes with the guard zones
    size_t bytes;  // between them
  };
  const Segment* segment_of(const char* address) const;
  void add(const char* begin, const char* end);
  void remove(const char* begin, const char* end);
  // What is not in use within still holds the pattern.
  void check_idle(const char* begin, const char* end);

  mutable std::shared_mutex mutex_;
  std::map<const char*, Segment> segments_;    // by their first byte
  std::map<const char*, const char*> ranges_;  // in use: begin, end
  std::atomic<uint64_t> version_{1};
  std::mutex damage_mutex_;
  std::string damage_;  // the first that was not reported
};

Memory& memory();

}  // namespace vtl::emulator
