// Caching allocator: memory goes back to the device only when asked. After warm-up a training step takes nothing from it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/core/device.h"

namespace vtl {

struct MemoryStats {
  size_t live_bytes = 0;      // handed out now
  size_t peak_bytes = 0;      // the most ever handed out since the last reset
  size_t reserved_bytes = 0;  // held from the device, handed out or not
  int64_t device_allocations = 0;
};

// Aligned to 256 bytes, contents undefined. Throws out_of_memory, which names the size and what is held.
// A block is reused in the order of the stream that the calling thread works on. Thread-safe.
void* allocate(Device device, size_t bytes);
void deallocate(Device device, void* pointer) noexcept;

MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);


// For tests: every block handed out from now on is filled with bytes 0xff (NaN as f32 and bf16) and lies between guard zones,
// which are looked at when it comes back.
void set_allocation_guards(bool on);
// How many blocks came back with a damaged guard zone.
int64_t damaged_guards();

}  // namespace vtl
