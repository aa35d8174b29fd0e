// The shared memory of one block: the dynamic part, then each static array, with a gap behind each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vtl::emulator {

class SharedMemory {
 public:
  static constexpr size_t kMost = size_t{227} << 10;       // of any device
  static constexpr size_t kMostStatic = size_t{48} << 10;  // what a kernel can declare
  static constexpr size_t kAlignment = 128;                // of every array: a row of banks

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // A new block begins: all is poisoned with 0xff, static arrays are forgotten.
  void begin(size_t dynamic_bytes);
  // The array of this key, made at first use; null when static arrays together would exceed kMostStatic.
  void* array(const void* key, size_t bytes);
  void* dynamic() { return memory_; }
  // Dynamic and static bytes so far.
  size_t bytes_used() const { return dynamic_bytes_ + static_bytes_; }

  bool contains(const void* address) const {
    const auto* at = static_cast<const char*>(address);
    return at >= memory_ && at < memory_ + kArena;
  }
  size_t offset(const void* address) const { return static_cast<size_t>(static_cast<const char*>(address) - memory_); }
  // Within one array.
  bool in_bounds(const void* address, size_t bytes) const;
  // Nothing has written into the gaps.
  bool gaps_intact() const;

  // Bytes that an asynchronous copy will write, and has not.
  void expect(const void* address, size_t bytes) { count_pending(address, bytes, 1); }
  void arrived(const void* address, size_t bytes) { count_pending(address, bytes, -1); }
  bool pending(const void* address, size_t bytes) const;

  static constexpr size_t kGap = 128;
  static constexpr size_t kArena = kMost + kMostStatic + 64 * (kGap + kAlignment);

 private:
  struct Array {
    const void* key;
    size_t begin, bytes;
  };
  static constexpr size_t kGranule = 4;  // the smallest asynchronous copy
  void count_pending(const void* address, size_t bytes, int by);
  void add(const void* key, size_t bytes);

  char* memory_;
  std::vector<Array> arrays_;  // the first is the dynamic part
  size_t end_ = 0, dynamic_bytes_ = 0, static_bytes_ = 0;
  std::vector<uint8_t> pending_;  // copies under way, for each granule
  size_t pending_count_ = 0;
};

}  // namespace vtl::emulator
