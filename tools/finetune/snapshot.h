// A copy of everything that training changes in a model, to come back to.
#pragma once

#include <string>
#include <vector>

#include "vtl/core/named_tensors.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/pretrained.h"
#include "vtl/optim/groups.h"

namespace vtl::finetune {

// Parameters in full precision, and the statistics of every BatchNorm.
class Snapshot {
 public:
  Snapshot() = default;  // empty: restores nothing
  Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters);

  // From what `tensors` of such a snapshot gave. Throws bad_model for other names or shapes.
  Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters,
           const NamedTensors& tensors);

  bool empty() const { return parameters_.empty(); }
  // Writes the copies back, into the model they were taken from.
  void restore(const models::LoadedModel& loaded) const;
  // The copies, under the names of the model's tensors.
  NamedTensors tensors() const;

 private:
  struct Parameter {
    optim::Member member;
    Tensor values;  // f32
  };
  struct Norm {
    std::string name;
    layers::BatchNorm* norm;
    Tensor mean, var, batches;  // undefined where the norm has none
  };
  std::vector<Parameter> parameters_;
  std::vector<Norm> norms_;
};

}  // namespace vtl::finetune
