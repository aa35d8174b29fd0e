#include "vtl/tests/harness/formula_weights.h"

#include <cmath>
#include <set>

#include "vtl/core/error.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/pretrained_source.h"

namespace vtl::test {
namespace {

Tensor filled(const std::string& name, const Shape& shape, double offset, double scale) {
  const FormulaNumbers u(name);
  const double base = static_cast<float>(offset), factor = static_cast<float>(scale);
  const Tensor made = Tensor::empty(shape, DType::f32, Device::cpu());
  for (int64_t i = 0; i < made.numel(); ++i)
    made.f32()[i] = static_cast<float>(base + factor * u[static_cast<uint64_t>(i)]);
  return made;
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

class NameCollector : public layers::Visitor {
 public:
  std::set<std::string> names;
  void on_parameter(const std::string& name, layers::Parameter&) override { names.insert(name); }
};

// layerS.B.bn3, or bn2 in a block without it; blocks.S.B.bn3 but for the first block of a stage.
bool ends_branch(const std::string& name, const std::set<std::string>& names) {
  const bool bn3 = name.ends_with(".bn3.weight"), bn2 = name.ends_with(".bn2.weight");
  if (!bn3 && !bn2) return false;
  const std::string block = name.substr(0, name.size() - std::string_view(".bn3.weight").size());
  if (block.starts_with("layer")) return bn3 || !names.count(block + ".bn3.weight");
  return bn3 && block.starts_with("blocks.") && !block.ends_with(".0");
}

class Filler : public layers::Visitor {
 public:
  Filler(const models::Model& model, std::set<std::string> names, Learning learning)
      : model_(model), names_(std::move(names)), learning_(learning) {}

  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    const Tensor values = models::to_kernel_layout(
        formula_weight(name, parameter.file_shape(), ends_branch(name, names_)), parameter.layout());
    parameter.freeze();
    parameter.set_value(models::to_working(values, parameter, model_.precision, model_.device));
    if (learning_ == Learning::all) parameter.make_learn(values);
  }
  void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override {
    norm.running_mean = formula_weight(name + ".running_mean", norm.weight.shape(), false);
    norm.running_var = formula_weight(name + ".running_var", norm.weight.shape(), false);
    norm.num_batches_tracked = Tensor::zeros({}, DType::i64, Device::cpu());
    ++norm.statistics_version;
  }

 private:
  const models::Model& model_;
  std::set<std::string> names_;
  Learning learning_;
};

}  // namespace

FormulaNumbers::FormulaNumbers(const std::string& name) : seed_(0xCBF29CE484222325u) {
  for (const char c : name) seed_ = (seed_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
}

Tensor formula_weight(const std::string& name, const Shape& shape, bool ends_branch) {
  const std::string kind = last_part(name);
  if (kind == "running_mean" || kind == "bias") return filled(name, shape, 0, 0.1);
  if (kind == "running_var" || kind == "gamma") return filled(name, shape, 1, 0.5);
  if (kind.ends_with("_token") || kind == "pos_embed") return filled(name, shape, 0, 0.5);
  VTL_CHECK(kind == "weight", "formula_weight: no formula for a tensor called ", name);
  if (shape.rank() > 1) {
    const double damping = name.ends_with(".attn.proj.weight") || name.ends_with(".mlp.fc2.weight") ? 0.25 : 1.0;
    const double gain = shape.rank() == 4 ? 6 : 3;
    return filled(name, shape, 0, damping * std::sqrt(gain / static_cast<double>(shape.numel() / shape[0])));
  }
  return ends_branch ? filled(name, shape, 0.1, 0.01) : filled(name, shape, 1, 0.1);
}

void fill_with_formula(const models::Model& model, Learning learning) {
  NameCollector collector;
  model.visit(collector);
  Filler filler(model, std::move(collector.names), learning);
  model.visit(filler);
}

Tensor formula_images(int64_t batch, int64_t size, const std::string& name) {
  constexpr int64_t kCell = 16;
  const int64_t cells = (size + kCell - 1) / kCell;
  const FormulaNumbers coarse(name + ".coarse"), fine(name + ".fine");
  const Tensor images = Tensor::empty({batch, size, size, 3}, DType::f32, Device::cpu());
  float* out = images.f32();
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t y = 0; y < size; ++y)
      for (int64_t x = 0; x < size; ++x)
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t plane = n * 3 + c;
          const double cell = coarse[static_cast<uint64_t>((plane * cells + y / kCell) * cells + x / kCell)];
          *out++ = static_cast<float>(1.5 * cell + fine[static_cast<uint64_t>((plane * size + y) * size + x)]);
        }
  return images;
}

Summary summarise(const std::string& name, const Tensor& values) {
  const FormulaNumbers u(name + ".probe");
  Summary made;
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double v = values.f32()[i];
    made.norm += v * v;
    made.probe += v * u[static_cast<uint64_t>(i)];
  }
  made.norm = std::sqrt(made.norm);
  return made;
}

}  // namespace vtl::test
