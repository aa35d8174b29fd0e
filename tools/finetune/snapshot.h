// A copy of everything that training changes in a model, to come back to.
#pragma once

#include <vector>

#include "vtl/layers/batchnorm.h"
#include "vtl/models/model.h"

namespace vtl::finetune {

// Values of parameters, in full precision where they learn, and the statistics of every BatchNorm.
class Snapshot {
 public:
  Snapshot() = default;  // empty
  Snapshot(const models::Model& model, const std::vector<layers::Parameter*>& parameters);

  bool empty() const { return parameters_.empty() && norms_.empty(); }
  // Writes the copies back, into the model they were taken from.
  void restore() const;

 private:
  struct Parameter {
    layers::Parameter* parameter;
    Tensor values;  // f32, or bf16 where there was only a working copy
  };
  struct Norm {
    layers::BatchNorm* norm;
    Tensor mean, var, batches;
  };
  std::vector<Parameter> parameters_;
  std::vector<Norm> norms_;
};

}  // namespace vtl::finetune
