#include "vtl/tools/finetune/snapshot.h"

#include "vtl/core/context.h"
#include "vtl/kernels/copy/copy.h"

namespace vtl::finetune {
namespace {

Tensor copy_of(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  Tensor copy = empty_like(tensor);
  copy.copy_from(tensor);
  return copy;
}

void write_back(const Tensor& to, const Tensor& from) {
  if (from.defined()) to.copy_from(from);
}

class Norms : public layers::Visitor {
 public:
  std::vector<layers::BatchNorm*> found;
  void on_batchnorm(const std::string&, layers::BatchNorm& norm) override { found.push_back(&norm); }
};

void convert(const Tensor& from, const Tensor& to) {
  if (to.defined()) kernels::cast(stream(), from.dtype(), from.data(), to.dtype(), to.data(), to.numel());
}

}  // namespace

Snapshot::Snapshot(const models::Model& model, const std::vector<layers::Parameter*>& parameters) {
  for (layers::Parameter* parameter : parameters)
    parameters_.push_back({parameter, copy_of(parameter->master().defined() ? parameter->master() : parameter->value())});
  Norms norms;
  model.visit(norms);
  for (layers::BatchNorm* norm : norms.found)
    norms_.push_back({norm, copy_of(norm->running_mean), copy_of(norm->running_var), copy_of(norm->num_batches_tracked)});
}

void Snapshot::restore() const {
  for (const auto& [parameter, values] : parameters_) {
    convert(values, parameter->master());
    if (parameter->value().dtype() != DType::f32) convert(values, parameter->value());
    parameter->touch();
  }
  for (const auto& [norm, mean, var, batches] : norms_) {
    write_back(norm->running_mean, mean);
    write_back(norm->running_var, var);
    write_back(norm->num_batches_tracked, batches);
    ++norm->statistics_version;
  }
}

}  // namespace vtl::finetune
