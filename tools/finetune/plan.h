// What a run is going to do, in numbers, before its first step.
#pragma once

#include <cstdint>
#include <vector>

#include "vtl/io/dataset.h"
#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"
#include "vtl/tools/finetune/strategy.h"

namespace vtl::finetune {

// How long a phase takes in optimizer steps.
struct PhaseLength {
  int64_t epochs = 0;           // the last one may be cut short
  int64_t steps_per_epoch = 0;  // of a whole epoch
  int64_t steps = 0;
};
// --max-steps cuts the phases that it does not reach down to nothing.
std::vector<PhaseLength> phase_lengths(const TrainOptions& options, const std::vector<Phase>& phases,
                                       int64_t train_images);

// Whether what is frozen in this phase runs once over the pictures and not every epoch: nothing random comes before it,
// and its output is small enough to keep.
bool is_cached(const Phase& phase, const models::Model& model, int64_t pictures);

// Images of each class.
std::vector<int64_t> class_counts(const std::vector<io::Sample>& samples, size_t classes);

// Sets the learning parameters of the last phase to measure what a step keeps; changes no value. Throws out_of_memory
// when a step would take far more memory than there is.
Plan make_plan(const TrainOptions& options, models::LoadedModel& loaded, const io::Dataset& data,
               const std::vector<Phase>& phases);

}  // namespace vtl::finetune
