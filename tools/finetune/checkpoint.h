// Everything that a run needs to continue with the same bits, in one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "vtl/core/named_tensors.h"
#include "vtl/io/weight_file.h"
#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// Where in a run one is: what the loops count.
struct RunPosition {
  int64_t phase = 0;
  int64_t epoch = 0;       // of the phase, from 0
  int64_t phase_step = 0;  // optimizer steps of the phase that are done
  int64_t batch = 0;       // of the epoch: the first one that was not seen
  double loss_sum = 0;     // over the images of the epoch so far
  int64_t images = 0, right = 0;
  int64_t without_improvement = 0;  // epochs of the phase
  int64_t steps = 0;                // of all phases
  int64_t bad_steps = 0;            // in a row

  friend bool operator==(const RunPosition&, const RunPosition&) = default;
};

struct Checkpoint {
  RunPosition position;
  int64_t best_epoch = 0;
  Metrics best;
  std::vector<EpochEvent> history;             // of a validation without its classes and confusion
  uint64_t events_bytes = 0, table_bytes = 0;  // of metrics.jsonl and metrics.csv when it was written
  NamedTensors model, best_model, optimizer;
};

// Whether a file is one of these.
bool is_checkpoint(const io::WeightFile& file);
// Whole or not at all: an older file stays until the new one is complete.
void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
// Throws bad_model for a file that is not such a checkpoint, io when it cannot be read. Tensors are on the host.
Checkpoint read_checkpoint(const std::filesystem::path& path);

}  // namespace vtl::finetune
