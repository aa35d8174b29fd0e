#include "vtl/models/model.h"

#include "vtl/core/error.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/init.h"
#include "vtl/layers/shape_ops.h"

namespace vtl::models {

const char* name(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? "bilinear" : "bicubic";
}

const char* name(CropMode mode) {
  switch (mode) {
    case CropMode::center:
      return "center";
    case CropMode::squash:
      return "squash";
    case CropMode::border:
      return "border";
  }
  return "center";
}

namespace {

class Initialiser : public layers::Visitor {
 public:
  Initialiser(const Model& model, uint64_t seed) : model_(model), seed_(seed) {}

  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    if (parameter.value().defined()) return;
    parameter.set_value(
        to_working(model_.first_value(name, parameter, seed_), parameter, model_.precision, model_.device));
  }
  void on_batchnorm(const std::string&, layers::BatchNorm& norm) override {
    const Shape channels = norm.weight.shape();
    if (!norm.running_mean.defined()) norm.running_mean = layers::init_zeros(channels).to(model_.device);
    if (!norm.running_var.defined()) norm.running_var = layers::init_ones(channels).to(model_.device);
    if (!norm.num_batches_tracked.defined()) norm.num_batches_tracked = Tensor::zeros({}, DType::i64, model_.device);
  }

 private:
  const Model& model_;
  uint64_t seed_;
};

class Counter : public layers::Visitor {
 public:
  ParameterCount count;

  void on_parameter(const std::string&, layers::Parameter& parameter) override {
    count.total += parameter.shape().numel();
    if (parameter.learns()) count.learning += parameter.shape().numel();
  }
};

}  // namespace

Model::Model(ModelFacts model_facts, Precision model_precision, Device model_device, Network network)
    : facts(std::move(model_facts)), precision(model_precision), device(model_device), network_(std::move(network)) {}

void Model::visit(layers::Visitor& visitor) const {
  for (const Stage& stage : stages()) stage.visit(visitor);
}

Tensor Model::forward(const Tensor& images) const { return forward(images, 0, stages().size()); }

Tensor Model::forward(const Tensor& x, size_t begin, size_t end) const {
  VTL_CHECK(begin <= end && end <= stages().size(), "model ", facts.name, ": stages [", begin, ", ", end,
            ") asked for, it has ", stages().size());
  if (begin == 0 && end > 0)
    VTL_CHECK(x.rank() == 4 && x.dim(3) == 3 && x.dtype() == compute_dtype(precision), "model ", facts.name,
              ": images ", x.shape(), " of ", vtl::name(x.dtype()), ", expected [batch, height, width, 3] of ",
              vtl::name(compute_dtype(precision)));
  Tensor y = x;
  for (size_t i = begin; i < end; ++i) y = stages()[i].forward(y);
  return y;
}

Tensor Model::features(const Tensor& images) const { return forward(images, 0, head_stage()); }

size_t Model::head_stage() const {
  size_t i = 0;
  while (i < stages().size() && stages()[i].kind != Stage::Kind::head) ++i;
  return i;
}

void Model::initialise(uint64_t seed) const {
  NoTapeScope no_tape;
  Initialiser initialiser(*this, seed);
  visit(initialiser);
}

Tensor to_working(const Tensor& value, const layers::Parameter& parameter, Precision precision, Device device) {
  NoTapeScope no_tape;
  const DType dtype = parameter.working_dtype(precision);
  return (value.dtype() == dtype ? value : layers::cast(value, dtype)).to(device);
}

ParameterCount count_parameters(const Model& model) {
  Counter counter;
  model.visit(counter);
  return counter.count;
}

}  // namespace vtl::models
