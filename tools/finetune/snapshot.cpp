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

}  // namespace

Snapshot::Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters) {
  for (const optim::Member& member : parameters)
    parameters_.push_back({member, copy_of(models::master_values(loaded, member.name, *member.parameter))});
  Norms norms;
  loaded.model.visit(norms);
  for (layers::BatchNorm* norm : norms.found)
    norms_.push_back({norm, copy_of(norm->running_mean), copy_of(norm->running_var), copy_of(norm->num_batches_tracked)});
}

void Snapshot::restore(const models::LoadedModel& loaded) const {
  for (const auto& [member, values] : parameters_) {
    // The master where the parameter learns, else the one that is kept for it.
    models::master_values(loaded, member.name, *member.parameter).copy_from(values);
    const Tensor& working = member.parameter->value();
    if (working.dtype() != DType::f32)
      kernels::cast(stream(), DType::f32, values.data(), working.dtype(), working.data(), working.numel());
    member.parameter->touch();
  }
  for (const auto& [norm, mean, var, batches] : norms_) {
    write_back(norm->running_mean, mean);
    write_back(norm->running_var, var);
    write_back(norm->num_batches_tracked, batches);
    ++norm->statistics_version;
  }
}

}  // namespace vtl::finetune
