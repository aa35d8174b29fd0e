#include "vtl/tools/finetune/snapshot.h"

#include <map>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
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
  std::vector<std::pair<std::string, layers::BatchNorm*>> found;
  void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override { found.emplace_back(name, &norm); }
};

}  // namespace

Snapshot::Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters) {
  for (const optim::Member& member : parameters)
    parameters_.push_back({member, copy_of(models::master_values(loaded, member.name, *member.parameter))});
  Norms norms;
  loaded.model.visit(norms);
  for (const auto& [name, norm] : norms.found)
    norms_.push_back(
        {name, norm, copy_of(norm->running_mean), copy_of(norm->running_var), copy_of(norm->num_batches_tracked)});
}

Snapshot::Snapshot(const models::LoadedModel& loaded, const std::vector<optim::Member>& parameters,
                   const NamedTensors& tensors)
    : Snapshot(loaded, parameters) {
  std::map<std::string, Tensor> given(tensors.begin(), tensors.end());
  const auto take = [&](const std::string& name, Tensor& place) {
    if (!place.defined()) return;
    const auto at = given.find(name);
    if (at == given.end() || at->second.shape() != place.shape() || at->second.dtype() != place.dtype())
      fail(ErrorKind::bad_model, "checkpoint: the tensor ", name, " of ", place.shape(),
           " is missing or of another shape; the run was "
           "begun with another model");
    place = at->second.to(place.device());
    given.erase(at);
  };
  for (Parameter& p : parameters_) take(p.member.name, p.values);
  for (Norm& n : norms_) {
    take(n.name + ".running_mean", n.mean);
    take(n.name + ".running_var", n.var);
    take(n.name + ".num_batches_tracked", n.batches);
  }
  if (!given.empty())
    fail(ErrorKind::bad_model, "checkpoint: the tensor ", given.begin()->first, " is none of this model and strategy");
}

NamedTensors Snapshot::tensors() const {
  NamedTensors tensors;
  for (const Parameter& p : parameters_) tensors.emplace_back(p.member.name, p.values);
  for (const Norm& n : norms_) {
    if (n.mean.defined()) tensors.emplace_back(n.name + ".running_mean", n.mean);
    if (n.var.defined()) tensors.emplace_back(n.name + ".running_var", n.var);
    if (n.batches.defined()) tensors.emplace_back(n.name + ".num_batches_tracked", n.batches);
  }
  return tensors;
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
  for (const auto& [name, norm, mean, var, batches] : norms_) {
    write_back(norm->running_mean, mean);
    write_back(norm->running_var, var);
    write_back(norm->num_batches_tracked, batches);
    ++norm->statistics_version;
  }
}

}  // namespace vtl::finetune
