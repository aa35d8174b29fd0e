#include "vtl/kernels/simt/queue.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/memory.h"
#include "vtl/kernels/simt/settings.h"

namespace vtl::emulator {

struct EventState {
  uint64_t recorded = 0, reached = 0;  // how often
};

class Graph {
 public:
  std::vector<std::function<void()>> work;
};

namespace {

struct Work {
  std::function<void()> run;
  // Not before this event was reached so often.
  std::shared_ptr<EventState> event;
  uint64_t reached = 0;

  bool ready() const { return !event || event->reached >= reached; }
};

}  // namespace

class Queue {
 public:
  std::deque<Work> work;
  std::unique_ptr<Graph> graph;  // while capturing
};

namespace {

thread_local Queue* capturing = nullptr;

// The work of all queues. Lazy mode is for one thread at a time that queues and waits.
struct Pending {
  std::recursive_mutex mutex;
  std::vector<Queue*> queues;
  uint64_t random = 0;

  Queue* any_ready() {
    std::vector<Queue*> ready;
    for (Queue* queue : queues)
      if (!queue->work.empty() && queue->work.front().ready()) ready.push_back(queue);
    if (ready.empty()) return nullptr;
    random = (random + settings().seed + 1) * 6364136223846793005ull + 1442695040888963407ull;
    return ready[(random >> 33) % ready.size()];
  }

  // Runs work of any queue, as long as done() says no.
  template <class Done>
  void run_until(Done&& done) {
    const std::lock_guard lock(mutex);
    while (!done()) {
      Queue* next = any_ready();
      if (!next) fail(ErrorKind::internal, "simt queues: every queue waits for an event that nobody reaches");
      const Work work = std::move(next->work.front());
      next->work.pop_front();
      if (work.run) work.run();
    }
  }

  // Until `queue` (null: every queue) has none left.
  void run_until_empty(const Queue* queue) {
    run_until([&] {
      if (queue) return queue->work.empty();
      return std::all_of(queues.begin(), queues.end(), [](const Queue* q) { return q->work.empty(); });
    });
  }
};

Pending& pending() {
  static auto& one = *new Pending;  // never destroyed: streams may live as long as the process
  return one;
}

void enqueue_work(Queue* queue, Work work) {
  if (!queue) {
    forbid_in_capture("work on the default queue");
    pending().run_until_empty(nullptr);
    if (work.run) work.run();
    return;
  }
  if (queue->graph) {
    if (work.event) fail(ErrorKind::unsupported, "simt graph: events within a capture");
    queue->graph->work.push_back(std::move(work.run));
    return;
  }
  const std::lock_guard lock(pending().mutex);
  queue->work.push_back(std::move(work));
  if (!settings().lazy) pending().run_until_empty(queue);
}

}  // namespace

void* create_queue() {
  auto* queue = new Queue;
  const std::lock_guard lock(pending().mutex);
  pending().queues.push_back(queue);
  return queue;
}

void destroy_queue(void* pointer) {
  auto* queue = static_cast<Queue*>(pointer);
  pending().run_until_empty(queue);
  const std::lock_guard lock(pending().mutex);
  std::erase(pending().queues, queue);
  if (capturing == queue) capturing = nullptr;
  delete queue;
}

void enqueue(void* queue, std::function<void()> work) {
  enqueue_work(static_cast<Queue*>(queue), {.run = std::move(work), .event = nullptr});
}

void launch(void* queue, const LaunchShape& shape, std::function<void()> thread) {
  check_shape(shape);
  memory().report_damage();
  enqueue(queue, [shape, thread = std::move(thread)] { run_grid(shape, thread); });
}

bool deferred(void* queue) { return queue && (settings().lazy || static_cast<Queue*>(queue)->graph); }

void synchronize(void* queue) {
  forbid_in_capture("waiting");
  pending().run_until_empty(static_cast<Queue*>(queue));
  memory().report_damage();
}

void begin_capture(void* pointer) {
  forbid_in_capture("a second capture");
  auto* queue = static_cast<Queue*>(pointer);
  if (!queue) fail(ErrorKind::internal, "simt graph: the default queue cannot be captured");
  queue->graph = std::make_unique<Graph>();
  capturing = queue;
}

Graph* end_capture(void* pointer) {
  auto* queue = static_cast<Queue*>(pointer);
  if (capturing != queue) fail(ErrorKind::internal, "simt graph: the queue is not being captured by this thread");
  capturing = nullptr;
  return queue->graph.release();
}

void replay(const Graph* graph, void* queue) {
  for (const auto& work : graph->work) enqueue(queue, work);
}

void destroy_graph(Graph* graph) { delete graph; }

void forbid_in_capture(const char* what) {
  if (capturing) fail(ErrorKind::internal, "simt graph: ", what, " while a graph is captured");
}

Event::Event() : state_(std::make_shared<EventState>()) {}

void Event::record(void* queue) {
  ++state_->recorded;
  enqueue(queue, [state = state_] { ++state->reached; });
}

void Event::synchronize() const {
  forbid_in_capture("waiting");
  pending().run_until([&] { return state_->reached == state_->recorded; });
}

void Event::wait(void* queue) const {
  enqueue_work(static_cast<Queue*>(queue), {.run = nullptr, .event = state_, .reached = state_->recorded});
}

}  // namespace vtl::emulator
