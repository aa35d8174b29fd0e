#include <cuda_runtime_api.h>

#include "vtl/core/error.h"
#include "vtl/core/runtime.h"

namespace vtl {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(ErrorKind::device, "cuda: ", what, ": ", cudaGetErrorString(status));
}

void use(Device device) { check(cudaSetDevice(device.index), "choosing the device"); }
cudaStream_t stream_of(void* queue) { return static_cast<cudaStream_t>(queue); }

void* allocate(Device device, size_t bytes) {
  use(device);
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next call reports it again
    return nullptr;
  }
  check(status, "allocation");
  return pointer;
}
void release(Device, void* pointer, size_t) { cudaFree(pointer); }

// Not a non-blocking stream: work on the default queue is ordered with it.
void* create_queue(Device device) {
  use(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "creating a stream");
  return stream;
}
void destroy_queue(Device, void* queue) { cudaStreamDestroy(stream_of(queue)); }
void synchronize(Device device, void* queue) {
  use(device);
  check(cudaStreamSynchronize(stream_of(queue)), "waiting for a stream");
}

// From and to pageable memory, CUDA returns when the host side is its owner's again.
void copy(Device device, void* queue, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (!bytes) return;
  use(device);
  check(cudaMemcpyAsync(to, from, bytes, kind, stream_of(queue)), "copy");
}
void copy_to_device(Device device, void* queue, void* to, const void* from, size_t bytes) {
  copy(device, queue, to, from, bytes, cudaMemcpyHostToDevice);
}
void copy_to_host(Device device, void* queue, void* to, const void* from, size_t bytes) {
  copy(device, queue, to, from, bytes, cudaMemcpyDeviceToHost);
}
void copy_on_device(Device device, void* queue, void* to, const void* from, size_t bytes) {
  copy(device, queue, to, from, bytes, cudaMemcpyDeviceToDevice);
}
void zero(Device device, void* queue, void* to, size_t bytes) {
  if (!bytes) return;
  use(device);
  check(cudaMemsetAsync(to, 0, bytes, stream_of(queue)), "zero");
}

void* allocate_pinned(Device device, size_t bytes) {
  use(device);
  void* pointer = nullptr;
  check(cudaMallocHost(&pointer, bytes), "allocation of pinned memory");
  return pointer;
}
void release_pinned(Device, void* pointer) { cudaFreeHost(pointer); }

void* create_event(Device device) {
  use(device);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  return event;
}
void destroy_event(Device, void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
void record_event(Device, void* queue, void* event) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_of(queue)), "recording an event");
}
void wait_event(Device, void* queue, void* event) {
  check(cudaStreamWaitEvent(stream_of(queue), static_cast<cudaEvent_t>(event), 0), "waiting for an event");
}
void synchronize_event(Device, void* event) {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "waiting for an event");
}

void begin_capture(Device device, void* queue) {
  use(device);
  check(cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeThreadLocal), "beginning a graph");
}
void* end_capture(Device, void* queue) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_of(queue), &graph), "ending a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "instantiating a graph");
  return executable;
}
void replay(Device, void* queue, void* graph) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(queue)), "replaying a graph");
}
void destroy_graph(Device, void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace

const Runtime* cuda_runtime() {
  static constexpr Runtime table{.allocate = allocate,
                                 .release = release,
                                 .create_queue = create_queue,
                                 .destroy_queue = destroy_queue,
                                 .synchronize = synchronize,
                                 .copy_to_device = copy_to_device,
                                 .copy_to_host = copy_to_host,
                                 .copy_on_device = copy_on_device,
                                 .zero = zero,
                                 .allocate_pinned = allocate_pinned,
                                 .release_pinned = release_pinned,
                                 .copy_from_pinned = copy_to_device,
                                 .create_event = create_event,
                                 .destroy_event = destroy_event,
                                 .record_event = record_event,
                                 .wait_event = wait_event,
                                 .synchronize_event = synchronize_event,
                                 .begin_capture = begin_capture,
                                 .end_capture = end_capture,
                                 .replay = replay,
                                 .destroy_graph = destroy_graph};
  static const bool usable = [] {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  }();
  return usable ? &table : nullptr;
}

}  // namespace vtl
