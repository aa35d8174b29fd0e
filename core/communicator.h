// Sums across processes. Null in the ordinary single-process run; no op knows whether it is there.
#pragma once

#include <cstdint>

#include "vtl/core/stream.h"

namespace vtl {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // In place, f32, ordered on the stream, the same bits on every rank.
  virtual void all_reduce_sum(Stream& stream, float* values, int64_t count) = 0;
};

}  // namespace vtl
