// From a strategy's name to what learns when, with which BatchNorm and at which rate.
#pragma once

#include <string>
#include <vector>

#include "vtl/models/pretrained.h"
#include "vtl/optim/groups.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// A part of the run with its own choice of what learns.
struct Phase {
  std::string name;  // "head", "last 2 blocks", "all", "adapter", "biases"
  int64_t epochs = 0;
  bool augment = true;                 // false: pictures as validation sees them, so that what is frozen runs once
  std::vector<optim::Group> groups;    // everything that learns; members point into the model
  std::vector<bool> batchnorm_trains;  // by stage: batch statistics, else running ones
  size_t frozen_stages = 0;            // the stages [0, frozen_stages) hold nothing that changes

  bool learns(const std::string& parameter) const;
};

// What a strategy does to `model`, in order. Adapters are attached already (models/lora.h). Throws bad_argument for
// `--unfreeze` beyond the number of blocks.
std::vector<Phase> phases(const TrainOptions& options, const models::Model& model);

// "train", "frozen", "train in 3 of 18 stages", "none" when the model has no BatchNorm.
std::string describe_batchnorm(const Phase& phase, const models::Model& model);

// Makes exactly the phase's parameters learn, and sets BatchNorm::frozen everywhere as it says.
void apply(const Phase& phase, models::LoadedModel& loaded);

}  // namespace vtl::finetune
