// The emulated device as core sees it.
#include "vtl/core/runtime.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/memory.h"
#include "vtl/kernels/simt/queue.h"

namespace vtl {
namespace {

void* allocate(Device, size_t bytes) {
  emulator::forbid_in_capture("allocation of device memory");
  emulator::memory().report_damage();
  return emulator::memory().allocate(bytes);
}

// What may not throw leaves its error for the next call that may.
template <class Body>
void keep_errors(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    emulator::memory().note_damage(error.what());
  }
}

void release(Device, void* pointer, size_t) {
  keep_errors([&] {
    emulator::forbid_in_capture("release of device memory");
    emulator::synchronize(nullptr);
    emulator::memory().release(pointer);
  });
}

void* create_queue(Device) { return emulator::create_queue(); }
void destroy_queue(Device, void* queue) {
  keep_errors([&] { emulator::destroy_queue(queue); });
}
void synchronize(Device, void* queue) { emulator::synchronize(queue); }

// Reads `from` when its turn comes, and not before: who reuses it too early is seen in lazy mode.
void copy_from_pinned(Device, void* queue, void* to, const void* from, size_t bytes) {
  if (!bytes) return;
  emulator::enqueue(queue, [=] {
    emulator::memory().check("copy to the device", to, bytes);
    std::memcpy(to, from, bytes);
  });
}

void copy_to_device(Device, void* queue, void* to, const void* from, size_t bytes) {
  emulator::forbid_in_capture("a copy from host memory that may be gone at a replay");
  if (!bytes) return;
  if (!emulator::deferred(queue)) return copy_from_pinned({}, queue, to, from, bytes);
  const auto* first = static_cast<const char*>(from);
  emulator::enqueue(queue, [=, kept = std::vector<char>(first, first + bytes)] {
    emulator::memory().check("copy to the device", to, bytes);
    std::memcpy(to, kept.data(), bytes);
  });
}

void copy_to_host(Device, void* queue, void* to, const void* from, size_t bytes) {
  emulator::forbid_in_capture("reading results");
  if (!bytes) return;
  emulator::enqueue(queue, [=] {
    emulator::memory().check("copy to the host", from, bytes);
    std::memcpy(to, from, bytes);
  });
  emulator::synchronize(queue);
}

void copy_on_device(Device, void* queue, void* to, const void* from, size_t bytes) {
  if (!bytes) return;
  emulator::enqueue(queue, [=] {
    emulator::memory().check("copy on the device, source", from, bytes);
    emulator::memory().check("copy on the device, destination", to, bytes);
    std::memmove(to, from, bytes);
  });
}

void zero(Device, void* queue, void* to, size_t bytes) {
  if (!bytes) return;
  emulator::enqueue(queue, [=] {
    emulator::memory().check("zero", to, bytes);
    std::memset(to, 0, bytes);
  });
}

void* allocate_pinned(Device, size_t bytes) { return std::malloc(bytes); }
void release_pinned(Device, void* pointer) { std::free(pointer); }
emulator::Event& event_of(void* event) { return *static_cast<emulator::Event*>(event); }
void* create_event(Device) { return new emulator::Event; }
void destroy_event(Device, void* event) { delete &event_of(event); }
void record_event(Device, void* queue, void* event) { event_of(event).record(queue); }
void wait_event(Device, void* queue, void* event) { event_of(event).wait(queue); }
void synchronize_event(Device, void* event) { event_of(event).synchronize(); }

void lend(Device, void* queue, void* pointer, size_t bytes) {
  emulator::enqueue(queue, [=] { emulator::memory().lend(pointer, bytes); });
}
void take_back(Device, void* queue, void* pointer, size_t bytes) {
  keep_errors([&] { emulator::enqueue(queue, [=] { emulator::memory().take_back(pointer, bytes); }); });
}

void begin_capture(Device, void* queue) { emulator::begin_capture(queue); }
void* end_capture(Device, void* queue) { return emulator::end_capture(queue); }
void replay(Device, void* queue, void* graph) { emulator::replay(static_cast<emulator::Graph*>(graph), queue); }
void destroy_graph(Device, void* graph) { emulator::destroy_graph(static_cast<emulator::Graph*>(graph)); }

}  // namespace

const Runtime* simt_runtime() {
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
                                 .copy_from_pinned = copy_from_pinned,
                                 .create_event = create_event,
                                 .destroy_event = destroy_event,
                                 .record_event = record_event,
                                 .wait_event = wait_event,
                                 .synchronize_event = synchronize_event,
                                 .lend = lend,
                                 .take_back = take_back,
                                 .begin_capture = begin_capture,
                                 .end_capture = end_capture,
                                 .replay = replay,
                                 .destroy_graph = destroy_graph};
  return &table;
}

}  // namespace vtl
