// What a run tells while it goes on. The library itself prints nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "vtl/io/dataset.h"
#include "vtl/tools/finetune/metrics.h"

namespace vtl::finetune {

struct PlanGroup {
  std::string name;          // "head", "backbone", "adapter"
  double learning_rate = 0;  // peak
  double lowest_rate = 0;    // of the member furthest from the head, with layer decay
  double weight_decay = 0;
  int64_t tensors = 0, parameters = 0;
};

// A part of the run with its own choice of what learns.
struct PlanPhase {
  std::string name;  // "head", "all"
  int64_t epochs = 0, steps = 0;
  std::string batchnorm;  // "train", "frozen", "train in 2 of 16 blocks", "none" (the model has no BatchNorm)
  bool cached = false;    // what is frozen runs once, not every epoch
  std::vector<PlanGroup> groups;
  int64_t trainable_parameters = 0;
};

// Everything that is decided before step 1.
struct Plan {
  std::string model, tag, strategy, precision, device, optimizer, schedule, augment;
  std::vector<std::string> classes;
  std::vector<int64_t> class_counts;  // training images
  int64_t train_images = 0, val_images = 0;
  int64_t height = 0, width = 0;
  int64_t batch_size = 0, accumulate = 1, steps = 0, epochs = 0, warmup_steps = 0;
  int threads = 0, workers = 0;
  std::vector<PlanPhase> phases;
  int64_t trainable_parameters = 0;  // of the phase in which most learns
  int64_t total_parameters = 0;
  size_t estimated_memory_bytes = 0;
  std::string monitor;  // "accuracy" or "macro_f1": what chooses best/
  std::vector<std::string> notes;
};

struct Note {
  std::string text;
};

// A phase begins.
struct PhaseEvent {
  std::string name;
  int64_t epoch = 0;  // the first one of the phase, from 1
  int64_t trainable_parameters = 0;
};

struct StepEvent {
  int64_t epoch = 0, epochs = 0, step = 0, steps = 0;  // from 1
  double loss = 0;                                     // mean over the step's images
  std::vector<std::pair<std::string, double>> rates;   // by group
  double grad_norm = 0;
  double images_per_second = 0;  // by wall clock since the step before, loading included
  bool skipped = false;          // loss or gradient not finite: nothing changed
};

struct EpochEvent {
  int64_t epoch = 0, epochs = 0;
  double train_loss = 0, train_accuracy = 0;
  Metrics validation;
  double seconds = 0;
  bool best = false;  // the best so far
};

enum class StopReason { finished, max_steps, early_stop, requested };
// "finished", "max_steps", "early_stop", "requested"
const char* name(StopReason reason);

struct StopEvent {
  StopReason reason = StopReason::finished;
  int64_t epoch = 0, step = 0;
};

// A picture that was left out.
using io::BadFile;

using Event = std::variant<Plan, BadFile, Note, PhaseEvent, StepEvent, EpochEvent, StopEvent>;

struct Callbacks {
  std::function<void(const Event&)> on_event;
  // Asked after every step; true ends the run in order: validation, best/, StopReason::requested.
  std::function<bool()> stop_requested;
};

}  // namespace vtl::finetune
