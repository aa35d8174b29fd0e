// Low-rank adapters: what they compute, learn and merge to, against PEFT (tests/reference/peft_golden.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/tests/harness/weights_file.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/io/adapter_file.h"
#include "vtl/io/json.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/models/adapter.h"
#include "vtl/models/lora.h"
#include "vtl/models/pretrained_source.h"
#include "vtl/optim/optimizer.h"

namespace vtl::test {
namespace {

using models::LoadedModel;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kModels[] = {"vit_tiny_patch16_224", "resnet18"};

json golden(const std::string& model) {
  return io::read_json_file(fs::path(VTL_SOURCE_DIR) / "tests/golden/peft" / (model + ".json"));
}

// The golden's base model with formula weights.
LoadedModel base_model(const json& wanted) {
  models::LoadOptions options;
  options.model.classes = wanted.at("options").at("num_classes").get<int64_t>();
  options.model.height = options.model.width = wanted.at("options").at("input_size").get<int64_t>();
  LoadedModel made = models::scratch_model(wanted.at("model").get<std::string>(), options);
  fill_with_formula(made.model, Learning::none);
  return made;
}

// The golden's adapter as PEFT writes it.
void write_golden_adapter(const json& wanted, const fs::path& directory) {
  fs::create_directories(directory);
  std::vector<FileTensor> tensors;
  for (const auto& [key, dims] : wanted.at("adapter_tensors").items()) {
    const auto shape = dims.get<std::vector<int64_t>>();
    tensors.push_back({key, formula_weight(key, Shape(std::span<const int64_t>(shape)), false)});
  }
  write_weights(directory / "adapter_model.safetensors", tensors);
  io::write_text_file(directory / "adapter_config.json", wanted.at("adapter_config").dump(2));
}

double relative_difference(const Tensor& logits, const json& want) {
  double difference = 0, size = 0;
  int64_t i = 0;
  for (const json& row : want)
    for (const json& value : row) {
      size = std::max(size, std::abs(value.get<double>()));
      difference = std::max(difference, std::abs(static_cast<double>(logits.f32()[i++]) - value.get<double>()));
    }
  CHECK(i == logits.numel());
  return difference / size;
}

struct Batch {
  Tensor images, labels;
  explicit Batch(const json& wanted) {
    const auto shape = wanted.at("input_shape").get<std::vector<int64_t>>();
    images = formula_images(shape[0], shape[2]);
    const auto values = wanted.at("labels").get<std::vector<int64_t>>();
    labels = Tensor::from(std::span<const int64_t>(values), {static_cast<int64_t>(values.size())});
  }
};

void freeze_statistics(const LoadedModel& loaded) {
  struct Freezer : layers::Visitor {
    void on_batchnorm(const std::string&, layers::BatchNorm& norm) override { norm.frozen = true; }
  } freezer;
  loaded.model.visit(freezer);
}

bool is_head(const std::string& name) { return name.starts_with("head.") || name.starts_with("fc."); }

TEST_CASE("adapters_of_peft_give_pefts_logits_and_merge_to_pefts_weights") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const json wanted = golden(name);
    const TempDir dir;
    write_golden_adapter(wanted, dir / "adapter");
    LoadedModel loaded = base_model(wanted);
    const Batch batch(wanted);
    CHECK(relative_difference(loaded.model.forward(batch.images), wanted.at("base_logits")) < 2e-5);
    models::load_adapter(loaded, dir / "adapter");
    CHECK(relative_difference(loaded.model.forward(batch.images), wanted.at("logits")) < 2e-5);

    models::merge_lora(loaded);
    CHECK_FALSE(models::has_lora(loaded.model));
    CHECK(relative_difference(loaded.model.forward(batch.images), wanted.at("logits")) < 2e-5);
    struct Checker : layers::Visitor {
      const json& want;
      size_t seen = 0;
      explicit Checker(const json& merged) : want(merged) {}
      void on_parameter(const std::string& parameter_name, layers::Parameter& parameter) override {
        if (!want.contains(parameter_name)) return;
        ++seen;
        const Summary got =
            summarise(parameter_name, models::to_file_layout(parameter.value().value(), parameter.layout()));
        const double norm = want.at(parameter_name)[0].get<double>();
        CHECK(std::abs(got.norm - norm) < 1e-6 * norm);
        CHECK(std::abs(got.probe - want.at(parameter_name)[1].get<double>()) < 1e-5 * norm);
      }
    } checker(wanted.at("merged_weights"));
    loaded.model.visit(checker);
    CHECK(checker.seen == wanted.at("merged_weights").size());
  }
}

TEST_CASE("adapters_learn_as_pefts_do") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const json wanted = golden(name);
    const TempDir dir;
    write_golden_adapter(wanted, dir / "adapter");
    LoadedModel loaded = base_model(wanted);
    models::load_adapter(loaded, dir / "adapter");
    freeze_statistics(loaded);
    models::set_learning(loaded, [](const std::string& n, const layers::Parameter&) {
      return models::is_adapter_name(n) || is_head(n);
    });
    const Batch batch(wanted);

    optim::OptimizerOptions options;
    options.clip_norm = 0;
    optim::Group group;
    group.name = "all";
    group.learning_rate = wanted.at("adamw").at("lr").get<double>();
    group.weight_decay = wanted.at("adamw").at("weight_decay").get<double>();
    struct Collector : layers::Visitor {
      std::vector<optim::Member>& members;
      explicit Collector(std::vector<optim::Member>& out) : members(out) {}
      void on_parameter(const std::string& n, layers::Parameter& parameter) override {
        if (parameter.learns()) members.push_back({n, &parameter, 0});
      }
    } collector(group.members);
    loaded.model.visit(collector);
    CHECK(group.members.size() == wanted.at("gradients").size());
    optim::Optimizer optimizer(options, {group}, Device::cpu(), 0);
    TrainingScope training;
    StepScope step(optimizer.state());
    bool first = true;
    for (const json& want : wanted.at("adamw").at("losses")) {
      Tape tape;
      TapeScope scope(tape);
      optimizer.zero_grad();
      const Tensor loss = layers::softmax_xent(loaded.model.forward(batch.images), batch.labels);
      CHECK(std::abs(loss.item() / want.get<double>() - 1) < 1e-4);
      tape.backward(loss);
      if (first)
        for (const optim::Member& member : optimizer.groups()[0].members) {
          const std::string key = "base_model.model." + member.name;
          const Tensor gradient =
              models::to_file_layout(member.parameter->value().slot()->grad.value(), member.parameter->layout());
          const Summary got = summarise(key, gradient);
          const double norm = wanted.at("gradients").at(key)[0].get<double>();
          // Activations that rounding moves across ReLU's kink move gradients by up to some per cent of their norm; a
          // wrong formula moves a probe by about half of it.
          const double goal = std::string(name) == "resnet18" ? 0.1 : 1e-4;
          CHECK_MESSAGE(std::abs(got.norm - norm) < goal * norm, key);
          CHECK_MESSAGE(std::abs(got.probe - wanted.at("gradients").at(key)[1].get<double>()) < goal * norm, key);
        }
      first = false;
      optimizer.step(1);
    }
  }
}

TEST_CASE("written_adapters_are_pefts_file_for_file") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const json wanted = golden(name);
    const TempDir dir;
    write_golden_adapter(wanted, dir / "adapter");
    LoadedModel loaded = base_model(wanted);
    models::load_adapter(loaded, dir / "adapter");
    loaded.model.facts.tag = models::list_tags(name).front();
    models::save_adapter(loaded, dir / "saved");
    CHECK(io::read_json_file(dir / "saved/adapter_config.json") == wanted.at("adapter_config"));
    const io::SafetensorsFile before(dir / "adapter/adapter_model.safetensors"),
        after(dir / "saved/adapter_model.safetensors");
    REQUIRE(after.size() == before.size());
    for (int64_t i = 0; i < before.size(); ++i) {
      CHECK(before.name(i) == after.name(i));
      CHECK(before[i].shape == after[i].shape);
      std::vector<std::byte> a(before[i].bytes()), b(a.size());
      before.read_raw(before[i], a);
      after.read_raw(after[i], b);
      CHECK(a == b);
    }
  }
}

TEST_CASE("a_new_adapter_changes_nothing_and_is_saved_merged_as_it_computes") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const json wanted = golden(name);
    const Batch batch(wanted);
    const TempDir dir;
    LoadedModel loaded = base_model(wanted);
    models::LoraOptions options;
    options.rank = 4;
    options.alpha = 12;
    const std::vector<std::string> layers = models::attach_lora(loaded, options);
    const bool vit = std::string(name).starts_with("vit");
    CHECK(layers.size() == (vit ? 48 : 19));
    CHECK(relative_difference(loaded.model.forward(batch.images), wanted.at("base_logits")) < 2e-5);

    struct Toucher : layers::Visitor {
      void on_parameter(const std::string& n, layers::Parameter& parameter) override {
        if (!n.ends_with("lora_B.weight")) return;
        for (int64_t i = 0; i < parameter.shape().numel(); ++i) parameter.value().f32()[i] = i % 2 ? 0.01f : -0.01f;
        parameter.touch();
      }
    } toucher;
    loaded.model.visit(toucher);
    const Tensor adapted = loaded.model.forward(batch.images);
    CHECK(relative_difference(adapted, wanted.at("base_logits")) > 1e-3);
    // Every tensor comes from the model: it has no file.
    struct Changer : layers::Visitor {
      std::set<std::string>& changed;
      explicit Changer(std::set<std::string>& names) : changed(names) {}
      void on_parameter(const std::string& n, layers::Parameter&) override { changed.insert(n); }
    } changer(loaded.changed);
    loaded.model.visit(changer);
    models::save_model(loaded, dir / "merged");
    const Tensor merged = models::load_model("", dir / "merged").model.forward(batch.images);
    double difference = 0, size = 0;
    for (int64_t i = 0; i < merged.numel(); ++i) {
      difference = std::max<double>(difference, std::abs(merged.f32()[i] - adapted.f32()[i]));
      size = std::max<double>(size, std::abs(adapted.f32()[i]));
    }
    CHECK(difference < 2e-5 * size);
    models::remove_lora(loaded);
    CHECK(relative_difference(loaded.model.forward(batch.images), wanted.at("base_logits")) < 2e-5);
  }
}

TEST_CASE("adapters_of_single_projections_are_one_of_the_fused_layer_in_the_file") {
  const json wanted = golden("vit_tiny_patch16_224");
  const Batch batch(wanted);
  const TempDir dir;
  LoadedModel loaded = base_model(wanted);
  models::LoraOptions options;
  options.targets = {"attn.q", "attn.v"};
  options.rank = 3;
  CHECK(models::attach_lora(loaded, options).size() == 24);
  struct Toucher : layers::Visitor {
    void on_parameter(const std::string& n, layers::Parameter& parameter) override {
      if (!n.ends_with("lora_B.weight")) return;
      for (int64_t i = 0; i < parameter.shape().numel(); ++i)
        parameter.value().f32()[i] = static_cast<float>(i % 5) * 0.01f;
      parameter.touch();
    }
  } toucher;
  loaded.model.visit(toucher);
  const Tensor split = loaded.model.forward(batch.images);
  models::save_adapter(loaded, dir / "adapter");
  const io::Adapter file = io::read_adapter(dir / "adapter");
  CHECK(file.config.rank == 6);
  CHECK(file.config.alpha == 16);
  models::remove_lora(loaded);
  models::load_adapter(loaded, dir / "adapter");
  const Tensor fused = loaded.model.forward(batch.images);
  double difference = 0, size = 0;
  for (int64_t i = 0; i < fused.numel(); ++i) {
    difference = std::max<double>(difference, std::abs(fused.f32()[i] - split.f32()[i]));
    size = std::max<double>(size, std::abs(split.f32()[i]));
  }
  CHECK(difference < 2e-5 * size);
}

TEST_CASE("adapters_in_hugging_faces_names_load_onto_the_fused_projection") {
  const json wanted = golden("vit_tiny_patch16_224");
  const TempDir dir;
  fs::create_directories(dir / "hf");
  const std::string query = "vit.encoder.layer.3.attention.attention.query";
  write_weights(dir / "hf/adapter_model.safetensors",
                {{"base_model.model." + query + ".lora_A.weight", formula_weight("a.weight", {4, 192}, false)},
                 {"base_model.model." + query + ".lora_B.weight", formula_weight("b.weight", {192, 4}, false)}});
  io::write_text_file(dir / "hf/adapter_config.json",
                      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["query"], "bias": "none"})");
  LoadedModel loaded = base_model(wanted);
  const std::vector<std::string> notes = models::load_adapter(loaded, dir / "hf");
  CHECK(notes.size() == 1);
  struct Finder : layers::Visitor {
    int found = 0;
    void on_linear(const std::string& name, layers::Linear& layer) override {
      if (layer.low_rank.empty()) return;
      ++found;
      CHECK(name == "blocks.3.attn.qkv");
      CHECK(layer.low_rank[0].part == "q");
      CHECK(layer.low_rank[0].row_begin == 0);
    }
  } finder;
  loaded.model.visit(finder);
  CHECK(finder.found == 1);
}

template <class Act>
std::string message_of(Act&& act, ErrorKind kind) {
  try {
    act();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  FAIL("no error");
  return {};
}

TEST_CASE("targets_and_files_that_do_not_fit_are_refused") {
  const json wanted = golden("resnet18");
  LoadedModel loaded = base_model(wanted);
  models::LoraOptions options;
  options.targets = {"conv1", "qkv"};
  const std::string unknown = message_of([&] { models::attach_lora(loaded, options); }, ErrorKind::bad_argument);
  CHECK(unknown.find("qkv") != std::string::npos);
  CHECK(unknown.find("layer1.0.conv1") != std::string::npos);
  CHECK_FALSE(models::has_lora(loaded.model));
  options.targets.clear();
  options.rank = 0;
  message_of([&] { models::attach_lora(loaded, options); }, ErrorKind::bad_argument);

  const TempDir dir;
  write_golden_adapter(wanted, dir / "adapter");
  const auto with = [&](const char* key, const json& value) {
    json config = wanted.at("adapter_config");
    config[key] = value;
    io::write_text_file(dir / "adapter/adapter_config.json", config.dump());
    return message_of([&] { models::load_adapter(loaded, dir / "adapter"); }, ErrorKind::bad_model);
  };
  CHECK(with("peft_type", "LOHA").find("LOHA") != std::string::npos);
  CHECK(with("use_dora", true).find("use_dora") != std::string::npos);
  CHECK(with("init_lora_weights", "pissa_niter_4").find("modified base weights") != std::string::npos);
  CHECK(with("target_modules", "layer.*conv1").find("regular expression") != std::string::npos);
  CHECK(with("bias", "all").find("bias") != std::string::npos);
  CHECK(with("r", 4).find("lora_A is [8") != std::string::npos);
  json more = wanted.at("adapter_config").at("target_modules");
  more.push_back("conv1");
  CHECK(with("target_modules", more).find("conv1 is a target but has no tensors") != std::string::npos);
  CHECK_FALSE(models::has_lora(loaded.model));
}

TEST_CASE("adapters_know_the_weights_they_were_trained_on") {
  const TempDir dir;
  models::ModelOptions options;
  options.classes = 3;
  write_formula_file(dir / "a.safetensors", "resnet18", options);
  LoadedModel loaded = models::load_model("resnet18", dir / "a.safetensors");
  models::attach_lora(loaded, {});
  models::save_adapter(loaded, dir / "adapter");
  models::remove_lora(loaded);
  CHECK(models::load_adapter(loaded, dir / "adapter").empty());
  models::merge_lora(loaded);
  models::save_model(loaded, dir / "b");
  LoadedModel other = models::load_model("", dir / "b");
  CHECK(message_of([&] { models::load_adapter(other, dir / "adapter"); }, ErrorKind::bad_model).find("other weights") !=
        std::string::npos);
}

TEST_CASE("what_peft_does_not_store_is_refused_and_changed_statistics_are_stored") {
  const TempDir dir;
  models::ModelOptions options;
  options.classes = 3;
  write_formula_file(dir / "w.safetensors", "resnet18", options);
  LoadedModel loaded = models::load_model("resnet18", dir / "w.safetensors");
  models::attach_lora(loaded, {});
  struct Toucher : layers::Visitor {
    void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override {
      if (name == "layer3.0.bn2") norm.running_mean.f32()[0] += 1;
    }
  } toucher;
  loaded.model.visit(toucher);
  models::save_adapter(loaded, dir / "adapter");
  CHECK(io::read_adapter(dir / "adapter").config.modules_to_save == std::vector<std::string>{"fc", "layer3.0.bn2"});
  models::set_learning(
      loaded, [](const std::string& name, const layers::Parameter&) { return name == "layer1.0.conv1.weight"; });
  CHECK(
      message_of([&] { models::save_adapter(loaded, dir / "again"); }, ErrorKind::unsupported).find("layer1.0.conv1") !=
      std::string::npos);
}

TEST_CASE("bf16_models_keep_adapters_in_f32_behind_bf16_copies") {
  const TempDir dir;
  models::LoadOptions options;
  options.model.classes = 3;
  options.model.height = options.model.width = 32;
  options.model.precision = Precision::bf16;
  LoadedModel loaded = models::scratch_model("vit_tiny_patch16_224", options);
  models::attach_lora(loaded, {});
  models::set_learning(loaded,
                       [](const std::string& n, const layers::Parameter&) { return models::is_adapter_name(n); });
  struct Checker : layers::Visitor {
    int64_t learning = 0;
    void on_parameter(const std::string& n, layers::Parameter& parameter) override {
      if (!models::is_adapter_name(n)) return;
      ++learning;
      CHECK(parameter.value().dtype() == DType::bf16);
      REQUIRE(parameter.master().defined());
      if (n.ends_with("lora_A.weight"))
        CHECK(static_cast<float>(bf16(parameter.master().f32()[1])) != parameter.master().f32()[1]);
    }
  } checker;
  loaded.model.visit(checker);
  CHECK(checker.learning == 96);
  models::save_adapter(loaded, dir / "adapter");
  CHECK(io::read_adapter(dir / "adapter").tensors.size() == 98);
}

}  // namespace
}  // namespace vtl::test
