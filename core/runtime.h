// What core needs of a device: memory, copies, order. One table per kind of device; a kind that is not in the build is null.
#pragma once

#include <cstddef>

#include "vtl/core/device.h"

namespace vtl {

struct Runtime {
  // Aligned to 256 bytes, contents undefined. Null when there is no memory.
  void* (*allocate)(Device, size_t bytes);
  void (*release)(Device, void* pointer, size_t bytes);
  // A queue of work (null on cpu, a cudaStream_t on cuda).
  void* (*create_queue)(Device);
  void (*destroy_queue)(Device, void* queue);
  void (*synchronize)(Device, void* queue);
  // Ordered on the queue. The host side may be reused when they return.
  void (*copy_to_device)(Device, void* queue, void* to, const void* from, size_t bytes);
  void (*copy_to_host)(Device, void* queue, void* to, const void* from, size_t bytes);
  void (*copy_on_device)(Device, void* queue, void* to, const void* from, size_t bytes);
  void (*zero)(Device, void* queue, void* to, size_t bytes);

  // Pinned host memory, which the device copies from while the host goes on: it has to stay as it is until the queue has come
  // past. Null where copying at once is as good.
  void* (*allocate_pinned)(Device, size_t bytes) = nullptr;
  void (*release_pinned)(Device, void* pointer) = nullptr;
  void (*copy_from_pinned)(Device, void* queue, void* to, const void* from, size_t bytes) = nullptr;

  // A point in a queue: record_event moves it to where the queue is now. What is queued after wait_event, and the host after
  // synchronize_event, comes after it. Null where there is one queue.
  void* (*create_event)(Device) = nullptr;
  void (*destroy_event)(Device, void* event) = nullptr;
  void (*record_event)(Device, void* queue, void* event) = nullptr;
  void (*wait_event)(Device, void* queue, void* event) = nullptr;
  void (*synchronize_event)(Device, void* event) = nullptr;

  // For who watches over memory; null where nobody does. A part of what allocate() gave is handed out, its contents undefined,
  // or comes back, in the order of the queue. take_back throws nothing, and what it is given need not have been lent.
  void (*lend)(Device, void* queue, void* pointer, size_t bytes) = nullptr;
  void (*take_back)(Device, void* queue, void* pointer, size_t bytes) = nullptr;

  // What the calling thread queues between begin and end is recorded, with its arguments, instead of done; a replay queues all
  // of it. Meanwhile it may not allocate, wait or read results. Null where calling again is as good.
  void (*begin_capture)(Device, void* queue) = nullptr;
  void* (*end_capture)(Device, void* queue) = nullptr;  // the graph
  void (*replay)(Device, void* queue, void* graph) = nullptr;
  void (*destroy_graph)(Device, void* graph) = nullptr;
};

// Throws `unsupported` when this build or machine has no such device.
const Runtime& runtime(Device device);
bool has_runtime(DeviceKind kind);

const Runtime* cpu_runtime();
const Runtime* cuda_runtime();  // null without CUDA
const Runtime* simt_runtime() __attribute__((weak));  // the tests' object library defines it

}  // namespace vtl
