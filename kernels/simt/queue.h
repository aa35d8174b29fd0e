// Queues of work (streams), events and graphs of the emulated device. Work runs at once; in lazy mode (settings.h) only
// when somebody waits for it, queues mixed in a random order that keeps to queues and events: what is not ordered by
// either happens in the wrong order sooner or later. A null queue is CUDA's default stream: it waits for all others.
#pragma once

#include <functional>
#include <memory>

#include "vtl/kernels/simt/launch.h"

namespace vtl::emulator {

class Queue;
class Graph;
struct EventState;

// A point in a queue that others can wait for.
class Event {
 public:
  Event();
  void record(void* queue);
  // What comes later in `queue` waits for the latest record() before this call.
  void wait(void* queue) const;
  // Until the latest record() has been reached.
  void synchronize() const;

 private:
  std::shared_ptr<EventState> state_;
};

void* create_queue();
void destroy_queue(void* queue);

void enqueue(void* queue, std::function<void()> work);
// Runs `thread` for each thread of the grid. Throws at once when the shape is impossible.
void launch(void* queue, const LaunchShape& shape, std::function<void()> thread);
// Whether work is kept instead of run: then it has to hold its data by value.
bool deferred(void* queue);
// Until everything in the queue is done (null: in all queues). Errors of that work come out here.
void synchronize(void* queue);

// What is queued until end_capture is recorded instead of run. During a capture, the capturing thread may neither
// allocate device memory nor wait nor read results.
void begin_capture(void* queue);
Graph* end_capture(void* queue);
// Queues all of it again.
void replay(const Graph* graph, void* queue);
void destroy_graph(Graph* graph);
void forbid_in_capture(const char* what);

}  // namespace vtl::emulator
