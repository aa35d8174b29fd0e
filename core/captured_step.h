// A training step, called again and again. On a device that can, it may become one graph that is replayed.
#pragma once

#include <functional>

#include "vtl/core/stream.h"

namespace vtl {

class CapturedStep {
 public:
  // `step` queues the same work on the stream each time; whatever changes between calls lives in device memory.
  CapturedStep(Stream& stream, std::function<void()> step) : stream_(stream), step_(std::move(step)) {}
  void run() { step_(); }

 private:
  [[maybe_unused]] Stream& stream_;
  std::function<void()> step_;
};

}  // namespace vtl
