// A copy of everything that training changes in a model, to come back to.
#pragma once

#include <vector>

#include "vtl/layers/batchnorm.h"
#include "vtl/models/pretrained.h"
#include "vtl/optim/groups.h"

namespace vtl::finetune {

// Parameters in full precision, and the statistics of every BatchNorm.
class Snapshot {
 public:
  Snapshot() = default;  // empty: restores nothing
  Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters);

  // Writes the copies back, into the model they were taken from.
  void restore(const models::LoadedModel& loaded) const;

 private:
  struct Parameter {
    optim::Member member;
    Tensor values;  // f32
  };
  struct Norm {
    layers::BatchNorm* norm;
    Tensor mean, var, batches;
  };
  std::vector<Parameter> parameters_;
  std::vector<Norm> norms_;
};

}  // namespace vtl::finetune
