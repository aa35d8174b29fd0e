// Whole models against what timm computes in float64 from the same weights and images
// (tests/reference/models_golden.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/tape.h"
#include "vtl/io/json.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/shape_ops.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/models/pretrained_source.h"
#include "vtl/models/registry.h"
#include "vtl/optim/optimizer.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/formula_weights.h"

namespace vtl::test {
namespace {

using nlohmann::json;

constexpr double kNullGradient = 1e-9;

std::vector<std::filesystem::path> golden_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(VTL_SOURCE_DIR) / "tests/golden/models"))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

// How far our numbers are from the reference, as tests/reference/README.md defines it.
struct Deviations {
  double eval_logits = 0, train_logits = 0, loss = 0, sgd_losses = 0, adamw_losses = 0;
  std::vector<double> gradient_norms, gradient_probes, statistics;
  double null_gradient = 0;  // the largest gradient that should be zero, over the largest gradient
};

double largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double logits_deviation(const Tensor& logits, const json& want) {
  const Tensor values = layers::cast(logits.value(), DType::f32).to(Device::cpu());
  double difference = 0, size = 0;
  int64_t i = 0;
  for (const json& row : want)
    for (const json& value : row) {
      size = std::max(size, std::abs(value.get<double>()));
      const double d = std::abs(static_cast<double>(values.f32()[i++]) - value.get<double>());
      difference = std::isfinite(d) ? std::max(difference, d) : HUGE_VAL;
    }
  CHECK(i == values.numel());
  return difference / size;
}

enum class Losses { none, both /* of ten steps of each optimizer */ };

// Sanitizers have seen everything after one step.
#if defined(__SANITIZE_ADDRESS__)
constexpr Losses kLosses = Losses::none;
#else
constexpr Losses kLosses = Losses::both;
#endif

class Case {
 public:
  Case(const json& golden, Precision precision, Device device)
      : golden_(golden), stream_(device), scope_(stream_), model_(make(golden, precision, device)) {
    const auto shape = golden.at("input_shape").get<std::vector<int64_t>>();
    const Tensor images = formula_images(shape[0], shape[2], golden.at("images").get<std::string>());
    images_ = layers::cast(images.to(device), compute_dtype(precision));
    const auto labels = golden.at("labels").get<std::vector<int64_t>>();
    labels_ = Tensor::from(std::span<const int64_t>(labels), {static_cast<int64_t>(labels.size())}, device);
  }

  Deviations measure(Losses losses) {
    CHECK(models::count_parameters(model_).total == golden_.at("parameters").get<int64_t>());
    Deviations found;
    fill_with_formula(model_, Learning::none);
    found.eval_logits = logits_deviation(model_.forward(images_), golden_.at("eval").at("logits"));
    fill_with_formula(model_, Learning::all);
    measure_step(found);
    if (losses == Losses::none) return found;
    found.sgd_losses = train(golden_.at("sgd"), optim::OptimizerKind::sgd);
    found.adamw_losses = train(golden_.at("adamw"), optim::OptimizerKind::adamw);
    return found;
  }

 private:
  static models::Model make(const json& golden, Precision precision, Device device) {
    const json& asked = golden.at("options");
    models::ModelOptions options;
    options.classes = asked.at("num_classes").get<int64_t>();
    options.height = options.width = asked.at("input_size").get<int64_t>();
    if (asked.contains("global_pool")) options.pool = asked.at("global_pool").get<std::string>();
    options.precision = precision;
    options.device = device;
    return models::describe_model(golden.at("model").get<std::string>(), options);
  }

  void measure_step(Deviations& found) {
    TrainingScope training;
    Tape tape;
    TapeScope scope(tape);
    const Tensor logits = model_.forward(images_);
    found.train_logits = logits_deviation(logits, golden_.at("train").at("logits"));
    const Tensor loss = layers::softmax_xent(logits, labels_);
    found.loss = std::abs(loss.item() / golden_.at("train").at("loss").get<double>() - 1);
    tape.backward(loss);
    NoTapeScope no_tape;
    compare_gradients(found);
    compare_statistics(found);
  }

  void compare_gradients(Deviations& found) {
    struct Comparer : layers::Visitor {
      const json& want;
      Deviations& found;
      double null = 0, largest = 0;
      size_t seen = 0;

      Comparer(const json& golden, Deviations& out) : want(golden), found(out) {}
      void on_parameter(const std::string& name, layers::Parameter& parameter) override {
        ++seen;
        const double norm = want.at(name)[0].get<double>(), probe = want.at(name)[1].get<double>();
        REQUIRE(parameter.value().slot()->grad.defined());
        const Tensor gradient = models::to_file_layout(parameter.value().slot()->grad.value(), parameter.layout());
        const Summary got = summarise(name, gradient.to(Device::cpu()));
        largest = std::max(largest, norm);
        if (norm <= kNullGradient) {
          null = std::max(null, got.norm);
          return;
        }
        found.gradient_norms.push_back(std::abs(got.norm - norm) / norm);
        found.gradient_probes.push_back(std::abs(got.probe - probe) / norm);
      }
    };
    Comparer comparer(golden_.at("gradients"), found);
    model_.visit(comparer);
    CHECK(comparer.seen == golden_.at("gradients").size());
    found.null_gradient = comparer.null / comparer.largest;
  }

  void compare_statistics(Deviations& found) {
    struct Comparer : layers::Visitor {
      const json& want;
      Deviations& found;
      size_t seen = 0;

      Comparer(const json& golden, Deviations& out) : want(golden), found(out) {}
      void on_buffer(const std::string& name, Tensor& buffer) override {
        if (buffer.dtype() != DType::f32) {
          CHECK(*buffer.to(Device::cpu()).data_as<int64_t>() == 1);
          return;
        }
        ++seen;
        const double norm = want.at(name)[0].get<double>(), probe = want.at(name)[1].get<double>();
        const Summary got = summarise(name, buffer.to(Device::cpu()));
        found.statistics.push_back(std::max(std::abs(got.norm - norm), std::abs(got.probe - probe)) / norm);
      }
    };
    Comparer comparer(golden_.at("batchnorm"), found);
    model_.visit(comparer);
    CHECK(comparer.seen == golden_.at("batchnorm").size());
  }

  // The largest relative difference of the losses before each step.
  double train(const json& settings, optim::OptimizerKind kind) {
    fill_with_formula(model_, Learning::all);
    optim::OptimizerOptions options;
    options.kind = kind;
    options.clip_norm = 0;
    if (kind == optim::OptimizerKind::sgd) options.momentum = settings.at("momentum").get<float>();
    optim::Group group;
    group.name = "all";
    group.learning_rate = settings.at("lr").get<double>();
    group.weight_decay = settings.at("weight_decay").get<double>();
    struct Collector : layers::Visitor {
      std::vector<optim::Member>& members;
      explicit Collector(std::vector<optim::Member>& out) : members(out) {}
      void on_parameter(const std::string& name, layers::Parameter& parameter) override {
        members.push_back({name, &parameter, 0});
      }
    };
    Collector collector(group.members);
    model_.visit(collector);
    optim::Optimizer optimizer(options, {group}, model_.device, 0);

    TrainingScope training;
    StepScope step(optimizer.state());
    double worst = 0;
    for (const json& want : settings.at("losses")) {
      Tape tape;
      TapeScope scope(tape);
      optimizer.zero_grad();
      const Tensor loss = layers::softmax_xent(model_.forward(images_), labels_);
      const double difference = std::abs(loss.item() / want.get<double>() - 1);
      worst = std::isfinite(difference) ? std::max(worst, difference) : HUGE_VAL;
      tape.backward(loss);
      optimizer.step(1);
    }
    return worst;
  }

  const json& golden_;
  Stream stream_;
  StreamScope scope_;
  models::Model model_;
  Tensor images_, labels_;
};

double field(const json& errors, const char* name, const char* which = nullptr) {
  if (!errors.contains(name)) return 0;
  return which ? errors.at(name).at(which).get<double>() : errors.at(name).get<double>();
}

TEST_CASE("formula_numbers_are_those_of_the_reference") {
  const FormulaNumbers input("input");
  CHECK(input[0] == -0.8043633699417114);
  CHECK(input[3] == -0.45111072063446045);
  const Tensor weight = formula_weight("fc.weight", {10, 512}, false);
  CHECK(weight.f32()[0] == -0.0023506246507167816f);
  CHECK(weight.f32()[2] == 0.03728199750185013f);
}

void check_fp32(const json& golden, Device device) {
  const Deviations found = Case(golden, Precision::fp32, device).measure(kLosses);
  CHECK(found.eval_logits < 2e-5);
  CHECK(found.train_logits < 2e-5);
  CHECK(found.loss < 2e-5);
  CHECK(largest(found.gradient_norms) < 1e-4);
  CHECK(largest(found.gradient_probes) < 1e-4);
  CHECK(found.null_gradient < 1e-5);
  CHECK(largest(found.statistics) < 1e-5);
  CHECK(found.sgd_losses < 1e-4);
  CHECK(found.adamw_losses < 1e-4);
}

// Twice PyTorch's own deviation. All our activations are bf16, as in a model that PyTorch has cast; its autocast adds up
// the branches of a transformer in f32. Norm and probe both sample the relative error of a gradient; that of the norms is
// mostly one random number, the error of the scale of all gradients, so the larger of the two is the yardstick.
void check_bf16(const json& golden, bool trains, Device device) {
  const json &autocast = golden.at("torch_bf16_error"), &cast = golden.at("torch_bf16_cast_error");
  const Deviations found = Case(golden, Precision::bf16, device).measure(trains ? kLosses : Losses::none);
  const auto goal = [&](const char* name, const char* which = nullptr) {
    return 2 * std::max(field(autocast, name, which), field(cast, name, which));
  };
  CHECK(found.eval_logits < goal("eval_logits"));
  CHECK(found.train_logits < goal("train_logits"));
  const double gradients = std::max(goal("gradients_norm", "median"), goal("gradients_probe", "median"));
  CHECK(median(found.gradient_norms) < gradients);
  CHECK(median(found.gradient_probes) < gradients);
  if (!trains) return;
  CHECK(found.sgd_losses < goal("sgd_losses"));
  CHECK(found.adamw_losses < goal("adamw_losses"));
}

TEST_CASE("models_compute_what_timm_computes_in_fp32") {
  for (const auto& path : golden_files()) {
    SUBCASE(path.stem().c_str()) {
      for (const Device& device : fast_devices()) {
        INFO("on ", to_string(device));
        check_fp32(io::read_json_file(path), device);
      }
    }
  }
}

TEST_CASE("models_in_bf16_deviate_at_most_twice_as_much_as_pytorch") {
  for (const auto& path : golden_files()) {
    const std::string name = path.stem();
    const bool trains = name == "resnet18" || name == "tf_efficientnet_lite0" || name.starts_with("vit_tiny");
    SUBCASE(name.c_str()) {
      for (const Device& device : fast_devices()) {
        INFO("on ", to_string(device));
        check_bf16(io::read_json_file(path), trains, device);
      }
    }
  }
}

}  // namespace
}  // namespace vtl::test
