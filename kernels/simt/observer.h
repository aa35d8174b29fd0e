// Sees what kernels do, in the order in which they do it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/kernels/simt/site.h"

namespace vtl::emulator {

class Block;
struct LaunchShape;

enum class AccessKind : uint8_t {
  read,
  write,
  atomic,
  landing  // an asynchronous copy arrives; it was a write when it was issued
};

// Either the place in the text is known, or the address of the instruction.
struct Access {
  const void* address;
  uint32_t bytes;
  AccessKind kind;
  Site site;
  const void* instruction = nullptr;
};

class Observer {
 public:
  virtual ~Observer() = default;

  virtual void launch_begins(const LaunchShape& shape) = 0;
  virtual void launch_ends() = 0;
  virtual void block_begins(const Block& block) = 0;
  virtual void block_ends() = 0;
  // All threads of the block have arrived.
  virtual void block_barrier() = 0;
  // A __syncwarp of these lanes. (Other warp operations order no memory.)
  virtual void warp_barrier(unsigned warp, uint32_t lanes) = 0;
  // Of the running thread, or, inside a warp operation, of a lane of its warp.
  virtual void access(unsigned warp, unsigned lane, const Access& access) = 0;
  virtual void tensor_instruction() = 0;
};

}  // namespace vtl::emulator
