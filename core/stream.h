// An ordered queue of work on one device, with the scratch memory of the kernels that run on it.
#pragma once

#include <cstddef>
#include <memory>

#include "vtl/core/device.h"

namespace vtl {

class Stream;

// Work memory of one kernel call, given back at the end of its scope. Scopes nest (last in, first out).
class Scratch {
 public:
  Scratch(Scratch&& other) noexcept;
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch();

  void* data() const { return data_; }
  float* f32() const { return static_cast<float*>(data_); }

 private:
  friend class Stream;
  Scratch(Stream* stream, void* data) : stream_(stream), data_(data) {}

  Stream* stream_;
  void* data_;
};

class Stream {
 public:
  explicit Stream(Device device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device device() const { return device_; }

  // `bytes` of undefined contents, aligned to 256. Grows during warm-up, then stays.
  Scratch scratch(size_t bytes);
  // The most scratch that was ever in use at once.
  size_t scratch_peak() const;

  // Waits until everything queued so far is done.
  void synchronize();
  // cudaStream_t on cuda, null on cpu.
  void* native() const { return queue_; }

 private:
  friend class Scratch;
  struct Arena;
  Device device_;
  void* queue_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace vtl
