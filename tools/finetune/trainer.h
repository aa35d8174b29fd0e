// Fine-tuning: options in, a model out, events on the way. Prints nothing, reads no environment, handles no signal.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vtl/io/dataset.h"
#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

struct TrainResult {
  models::LoadedModel model;  // of the best epoch, frozen; with lora the adapters are attached, unmerged
  Plan plan;
  std::vector<EpochEvent> history;
  int64_t best_epoch = 0;       // from 1; 0 after a dry run
  Metrics best;                 // validation, at the best epoch
  std::optional<Metrics> test;  // of the best epoch, where the data has a test split
  StopReason stop = StopReason::finished;
  int64_t steps = 0;
  double seconds = 0;
  size_t peak_memory_bytes = 0;  // resident, of the whole process
  std::vector<BadFile> bad_files;
};

// The whole job: reads the data folder or CSV and the weights, trains, writes the run folder when options.out is set.
// Throws bad_argument (options), bad_data, bad_model, io, out_of_memory when a step would take far more than there is,
// or diverged after three steps in a row that were not finite, or when none was. The same bits for the same build,
// threads and seed, however many loader workers.
TrainResult train(const TrainOptions& options, const Callbacks& callbacks = {});

// The same on images and a model that the caller holds; `options.data` and `options.model` are not read.
TrainResult train(const TrainOptions& options, models::LoadedModel model, io::Dataset data,
                  const Callbacks& callbacks = {});

}  // namespace vtl::finetune
