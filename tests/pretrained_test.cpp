// Weights into models and back, in three dialects, and every way in which they may not fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/tests/harness/weights_file.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/io/file.h"
#include "vtl/io/image.h"
#include "vtl/io/json.h"
#include "vtl/io/transform.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/models/dialects.h"
#include "vtl/models/position.h"
#include "vtl/models/pretrained.h"
#include "vtl/models/pretrained_source.h"

namespace vtl::test {
namespace {

using models::HeadPolicy;
using models::LoadedModel;
using models::LoadOptions;
using nlohmann::json;
namespace fs = std::filesystem;

json golden(const char* name) { return io::read_json_file(fs::path(VTL_SOURCE_DIR) / "tests/golden" / name); }

models::ModelOptions with_classes(int64_t classes) {
  models::ModelOptions options;
  options.classes = classes;
  return options;
}

models::ModelOptions small_vit() {
  models::ModelOptions options = with_classes(10);
  options.height = options.width = 64;
  return options;
}

LoadOptions load_options(const models::ModelOptions& model = {}, HeadPolicy head = HeadPolicy::automatic) {
  LoadOptions options;
  options.model = model;
  options.head = head;
  return options;
}

// The message of the bad_model error that `load` throws.
template <class Load>
Error error_of(Load&& load, ErrorKind kind = ErrorKind::bad_model) {
  try {
    load();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error;
  }
  FAIL("no error");
  return {ErrorKind::internal, ""};
}

bool says(const Error& error, const std::string& text) {
  INFO(std::string(error.what()));
  const bool found = std::string(error.what()).find(text) != std::string::npos;
  CHECK_MESSAGE(found, text);
  return found;
}

// Every parameter against the formula.
void check_values(const LoadedModel& loaded) {
  struct Checker : layers::Visitor {
    int64_t checked = 0;
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      const Tensor want = formula_weight(name, parameter.file_shape(), false);
      const Tensor got = models::to_file_layout(parameter.value().value(), parameter.layout());
      CHECK_MESSAGE(std::memcmp(want.data(), got.data(), want.bytes()) == 0, name);
      ++checked;
    }
  } checker;
  loaded.model.visit(checker);
  CHECK(checker.checked > 10);
}

std::vector<std::byte> data_region(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> all((std::istreambuf_iterator<char>(in)), {});
  uint64_t header = 0;
  std::memcpy(&header, all.data(), 8);
  const auto* begin = reinterpret_cast<const std::byte*>(all.data()) + 8 + header;
  return {begin, reinterpret_cast<const std::byte*>(all.data()) + all.size()};
}

std::vector<std::string> own(const std::string& name) { return {name}; }

std::vector<std::string> foreign(const json& table, const std::string& name) {
  if (!table.contains(name)) return {name};
  const json& found = table.at(name);
  return found.is_array() ? found.get<std::vector<std::string>>() : std::vector<std::string>{found.get<std::string>()};
}

TEST_CASE("every_name_of_the_dialects_is_understood") {
  const json dialects = golden("dialects.json");
  for (const auto& [title, entry] : dialects.items()) {
    if (!entry.is_object() || !entry.contains("renamed")) continue;
    CAPTURE(title);
    const json& table = entry.at("renamed");
    std::vector<std::string> names;
    const auto shapes = file_shapes(models::describe_model(entry.at("timm").get<std::string>()));
    for (const auto& [name, shape] : shapes)
      for (const std::string& theirs : foreign(table, name)) names.push_back(theirs);
    const auto recognised = models::recognise(names);
    REQUIRE(recognised);
    if (!table.empty()) CHECK(title.starts_with(models::name(recognised->dialect)));
    for (const auto& [name, shape] : shapes) {
      const std::vector<std::string> theirs = foreign(table, name);
      for (size_t i = 0; i < theirs.size(); ++i) {
        const auto renamed = models::rename(*recognised, theirs[i]);
        REQUIRE(renamed);
        CHECK(renamed->name == name);
        CHECK(renamed->part == (theirs.size() == 1 ? -1 : static_cast<int>(i)));
      }
    }
  }
}

TEST_CASE("files_of_every_dialect_load_and_are_saved_in_timms_names_with_the_same_bytes") {
  const json dialects = golden("dialects.json");
  struct Pick {
    const char *title, *model, *dialect;
  };
  for (const Pick& pick : {Pick{"huggingface/vit-tiny", "vit_tiny_patch16_224", "huggingface"},
                           Pick{"torchvision/vit_b_16", "vit_tiny_patch16_224", "torchvision"},
                           Pick{"huggingface/deit-tiny-distilled", "deit_tiny_distilled_patch16_224", "huggingface"},
                           Pick{"huggingface/resnet-18", "resnet18", "huggingface"}}) {
    CAPTURE(pick.title);
    const TempDir dir;
    const json& table = dialects.at(pick.title).at("renamed");
    const bool vit = std::string(pick.model) != "resnet18";
    const models::Model model = models::describe_model(pick.model, vit ? small_vit() : with_classes(10));
    write_weights(dir / "foreign.safetensors",
                  formula_tensors(model, [&](const std::string& n) { return foreign(table, n); }));
    write_weights(dir / "timm.safetensors", formula_tensors(model, own));
    const LoadedModel loaded = models::load_model(pick.model, dir / "foreign.safetensors");
    CHECK(loaded.report.dialect == pick.dialect);
    CHECK(loaded.report.random.empty());
    CHECK(loaded.model.facts.classes == 10);
    check_values(loaded);
    models::save_model(loaded, dir / "saved");
    CHECK(data_region(dir / "saved/model.safetensors") == data_region(dir / "timm.safetensors"));
    check_values(models::load_model("", dir / "saved"));
  }
}

TEST_CASE("wrappers_around_names_are_removed") {
  const TempDir dir;
  write_weights(dir / "wrapped.safetensors",
                formula_tensors(models::describe_model("resnet18", with_classes(3)),
                                [](const std::string& n) { return std::vector<std::string>{"module.model." + n}; }));
  check_values(models::load_model("resnet18", dir / "wrapped.safetensors"));
}

TEST_CASE("half_and_double_precision_files_load_and_are_saved_as_they_came") {
  const TempDir dir;
  std::vector<io::TensorToWrite> tensors;
  std::vector<std::vector<double>> kept;
  for (const FileTensor& tensor : formula_tensors(models::describe_model("resnet18", with_classes(3)), own)) {
    std::vector<uint64_t> shape(tensor.values.shape().dims().begin(), tensor.values.shape().dims().end());
    if (tensor.values.dtype() == DType::i64) continue;
    auto& values = kept.emplace_back(tensor.values.f32(), tensor.values.f32() + tensor.values.numel());
    tensors.push_back(io::tensor_from_memory(tensor.name, io::FileDType::f64, shape, std::as_bytes(std::span(values))));
  }
  io::write_safetensors(dir / "double.safetensors", std::move(tensors));
  const LoadedModel loaded = models::load_model("resnet18", dir / "double.safetensors");
  check_values(loaded);
  REQUIRE(loaded.report.converted.size() == 1);
  CHECK(loaded.report.converted[0] == "F64 to F32: 102 tensors");
  CHECK(loaded.report.notes.at(0) == "converted F64 to F32: 102 tensors");
  models::save_model(loaded, dir / "saved");
  const io::SafetensorsFile saved(dir / "saved/model.safetensors");
  CHECK(saved.find("conv1.weight")->dtype == io::FileDType::f64);
  CHECK(saved.find("bn1.num_batches_tracked")->dtype == io::FileDType::i64);
}

TEST_CASE("everything_that_does_not_fit_is_reported_at_once_with_the_model_that_does") {
  const TempDir dir;
  write_formula_file(dir / "18.safetensors", "resnet18", with_classes(10));
  const Error other = error_of([&] { models::load_model("resnet34", dir / "18.safetensors"); });
  says(other, "does not fit resnet34");
  says(other, "80 missing");
  says(other, "The file fits resnet18");
  CHECK(other.problems().size() == 80);
  says(error_of([&] { models::load_model("vit_tiny_patch16_224", dir / "18.safetensors"); }), "family resnet");

  auto tensors = formula_tensors(models::describe_model("resnet18", with_classes(10)), own);
  tensors.erase(
      std::find_if(tensors.begin(), tensors.end(), [](const auto& t) { return t.name == "layer2.0.bn1.bias"; }));
  tensors.push_back({"extra.weight", Tensor::zeros({2}, DType::f32, Device::cpu())});
  for (FileTensor& t : tensors)
    if (t.name == "bn1.weight") t.values = Tensor::zeros({65}, DType::f32, Device::cpu());
  write_weights(dir / "odd.safetensors", tensors);
  const Error odd = error_of([&] { models::load_model("resnet18", dir / "odd.safetensors"); });
  says(odd, "1 missing (layer2.0.bn1.bias)");
  says(odd, "1 not expected (extra.weight)");
  says(odd, "bn1.weight is [65], expected [64]");
  CHECK(odd.problems().size() == 3);
}

TEST_CASE("files_that_are_no_weights_of_ours_are_named") {
  const TempDir dir;
  const auto one = [&](const char* name) {
    write_weights(dir / "one.safetensors", {{name, Tensor::zeros({2, 2}, DType::f32, Device::cpu())}});
    return error_of([&] { models::load_model("resnet18", dir / "one.safetensors"); });
  };
  says(one("visual.class_embedding"), "CLIP");
  says(one("nothing.known"), "nothing.known");
  write_formula_file(dir / "18.safetensors", "resnet18", with_classes(10));
  says(error_of([&] { models::load_model("", dir / "18.safetensors"); }), "The file fits resnet18");
}

TEST_CASE("head_policies_decide_what_becomes_of_the_classifier") {
  const TempDir dir;
  write_weights(dir / "named.safetensors", formula_tensors(models::describe_model("resnet18", with_classes(3)), own),
                {{"vtl.labels", R"(["ant","bee","cat"])"}, {"vtl.architecture", "resnet18"}});
  const auto load = [&](std::vector<std::string> names, HeadPolicy head, std::optional<int64_t> classes = {}) {
    LoadOptions options = load_options({}, head);
    options.model.classes = classes;
    options.class_names = std::move(names);
    return models::load_model("", dir / "named.safetensors", options);
  };
  const LoadedModel as_is = load({}, HeadPolicy::automatic);
  CHECK(as_is.report.random.empty());
  CHECK(as_is.model.facts.class_names == std::vector<std::string>{"ant", "bee", "cat"});
  CHECK(load({"ant", "bee", "cat"}, HeadPolicy::automatic).report.random.empty());

  const LoadedModel other = load({"ant", "bee", "dog"}, HeadPolicy::automatic);
  CHECK(other.report.random == std::vector<std::string>{"fc.weight", "fc.bias"});
  CHECK(other.report.dropped.size() == 2);
  CHECK(other.report.notes == std::vector<std::string>{"left out of the file: fc.bias, fc.weight",
                                                       "begins with first values: fc.weight, fc.bias"});
  CHECK(other.model.facts.class_names.back() == "dog");
  CHECK(load({"x", "y"}, HeadPolicy::automatic).model.facts.classes == 2);
  CHECK(load({}, HeadPolicy::automatic, 5).model.facts.classes == 5);
  CHECK(load({}, HeadPolicy::fresh).report.random.size() == 2);

  const LoadedModel kept = load({"x", "y", "z"}, HeadPolicy::keep);
  CHECK(kept.report.random.empty());
  CHECK(kept.model.facts.class_names.front() == "x");
  says(error_of([&] { load({"x", "y"}, HeadPolicy::keep); }), "cannot be kept");
}

TEST_CASE("what_files_say_of_themselves_must_not_be_contradicted") {
  const TempDir dir;
  const auto tensors = formula_tensors(models::describe_model("resnet18", with_classes(3)), own);
  write_weights(dir / "m.safetensors", tensors, {{"vtl.architecture", "resnet18"}, {"vtl.tag", "tv_in1k"}});
  says(error_of([&] { models::load_model("resnet34", dir / "m.safetensors"); }), "the file says that it is resnet18");
  says(error_of([&] { models::load_model("resnet18.a1_in1k", dir / "m.safetensors"); }), "resnet18.tv_in1k");
  CHECK(models::load_model("resnet18", dir / "m.safetensors").model.facts.tag == "tv_in1k");
  write_weights(dir / "act.safetensors", tensors, {{"vtl.activation", "silu"}});
  says(error_of([&] { models::load_model("resnet18", dir / "act.safetensors"); }), "activation silu");
  write_weights(dir / "labels.safetensors", tensors, {{"vtl.labels", R"(["a","b"])"}});
  says(error_of([&] { models::load_model("resnet18", dir / "labels.safetensors"); }), "3 outputs");

  const LoadedModel loaded = models::load_model("resnet18", dir / "m.safetensors");
  models::save_model(loaded, dir / "saved");
  json config = io::read_json_file(dir / "saved/config.json");
  config["pretrained_cfg"]["crop_pct"] = 0.5;
  io::write_text_file(dir / "saved/config.json", config.dump());
  says(error_of([&] { models::load_model("", dir / "saved"); }), "crop_pct: config.json says 0.5");
}

TEST_CASE("constants_travel_with_the_model") {
  const TempDir dir;
  const json table = golden("dialects.json").at("huggingface/vit-tiny").at("renamed");
  const auto tensors = formula_tensors(models::describe_model("vit_tiny_patch16_224", small_vit()),
                                       [&](const std::string& n) { return foreign(table, n); });
  fs::create_directories(dir / "hf");
  write_weights(dir / "hf/model.safetensors", tensors);
  io::write_text_file(dir / "hf/config.json",
                      R"({"model_type": "vit", "layer_norm_eps": 1e-5, "hidden_act": "gelu", "image_size": 64})");
  io::write_text_file(
      dir / "hf/preprocessor_config.json",
      R"({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 2, "do_resize": true})");
  const LoadedModel loaded = models::load_model("vit_tiny_patch16_224", dir / "hf");
  CHECK(loaded.model.facts.constants.norm_eps == 1e-5);
  CHECK(loaded.model.facts.preprocessing.std[0] == 0.25f);
  CHECK(loaded.model.facts.preprocessing.crop_mode == models::CropMode::squash);
  CHECK(loaded.model.facts.preprocessing.height == 64);
  models::save_model(loaded, dir / "saved");
  const LoadedModel again = models::load_model("", dir / "saved");
  CHECK(again.model.facts.constants == loaded.model.facts.constants);
  CHECK(again.model.facts.preprocessing == loaded.model.facts.preprocessing);
  CHECK(again.model.facts.name == "vit_tiny_patch16_224");
  const json config = io::read_json_file(dir / "saved/config.json");
  CHECK(config.at("model_args").at("img_size") == json{64, 64});
  CHECK(config.at("num_features") == 192);

  io::write_text_file(dir / "hf/config.json", R"({"model_type": "vit", "hidden_act": "gelu_new"})");
  says(error_of([&] { models::load_model("vit_tiny_patch16_224", dir / "hf"); }), "activation gelu_tanh");
}

TEST_CASE("position_embeddings_are_resampled_as_timm_does") {
  const json cases = golden("pos_embed.json").at("cases");
  for (const auto& [name, wanted] : cases.items()) {
    CAPTURE(name);
    const auto grid = [&](const char* key) {
      return models::Grid{wanted.at(key)[0].get<int64_t>(), wanted.at(key)[1].get<int64_t>()};
    };
    const int64_t prefix = wanted.at("prefix_tokens").get<int64_t>(), dim = wanted.at("dim").get<int64_t>();
    const Tensor embedding = formula_weight("pos_embed", {1, prefix + grid("old_grid").count(), dim}, false);
    const Tensor made = models::resample_position(embedding, prefix, grid("old_grid"), grid("new_grid"));
    const auto values = wanted.at("values").get<std::vector<double>>();
    REQUIRE(made.numel() == static_cast<int64_t>(values.size()));
    double difference = 0;
    for (size_t i = 0; i < values.size(); ++i) difference = std::max(difference, std::abs(made.f32()[i] - values[i]));
    CHECK(difference < 2e-6);
  }
}

TEST_CASE("another_input_size_resamples_positions_and_says_so") {
  const TempDir dir;
  write_formula_file(dir / "w.safetensors", "vit_tiny_patch16_224", small_vit());
  models::ModelOptions larger;
  larger.height = 96;
  larger.width = 80;
  const LoadedModel loaded = models::load_model("vit_tiny_patch16_224", dir / "w.safetensors", load_options(larger));
  REQUIRE(loaded.report.resampled.size() == 1);
  CHECK(loaded.report.resampled[0] == "pos_embed: 4 x 4 to 6 x 5");
  CHECK(loaded.report.notes == std::vector<std::string>{"input 96 x 80 as asked for; the model's is 64 x 64",
                                                        "resampled pos_embed: 4 x 4 to 6 x 5"});
  models::save_model(loaded, dir / "saved");
  const LoadedModel again = models::load_model("", dir / "saved");
  CHECK(again.report.resampled.empty());
  CHECK(again.model.facts.preprocessing.width == 80);
}

TEST_CASE("bf16_models_read_their_masters_from_the_file_when_they_begin_to_learn") {
  const TempDir dir;
  write_formula_file(dir / "w.safetensors", "resnet18", with_classes(3));
  models::ModelOptions options;
  options.precision = Precision::bf16;
  LoadedModel loaded = models::load_model("resnet18", dir / "w.safetensors", load_options(options));
  models::set_learning(loaded,
                       [](const std::string& name, const layers::Parameter&) { return name.starts_with("layer4"); });
  struct Checker : layers::Visitor {
    const LoadedModel& loaded;
    explicit Checker(const LoadedModel& model) : loaded(model) {}
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      CHECK(parameter.learns() == name.starts_with("layer4"));
      CHECK(parameter.value().dtype() == (parameter.role() == layers::Role::matrix ? DType::bf16 : DType::f32));
      const Tensor want =
          models::to_kernel_layout(formula_weight(name, parameter.file_shape(), false), parameter.layout());
      const Tensor got = models::master_values(loaded, name, parameter);
      CHECK_MESSAGE(std::memcmp(want.data(), got.data(), want.bytes()) == 0, name);
      if (parameter.learns()) CHECK(parameter.master().dtype() == DType::f32);
    }
  } checker(loaded);
  loaded.model.visit(checker);
  // Frozen again, a parameter keeps what it has learned.
  struct Toucher : layers::Visitor {
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      if (name == "layer4.1.conv2.weight") parameter.master().f32()[3] = 0.1234567f;
    }
  } toucher;
  loaded.model.visit(toucher);
  models::set_learning(loaded, [](const std::string&, const layers::Parameter&) { return false; });
  models::save_model(loaded, dir / "saved");
  const io::SafetensorsFile saved(dir / "saved/model.safetensors");
  std::vector<float> values(512 * 512 * 9);
  saved.read_as_f32(*saved.find("layer4.1.conv2.weight"), values);
  CHECK(values[3 * 9] == 0.1234567f);  // [out, kh, kw, in] position 3 is channel 3 of the first pixel
}

TEST_CASE("frozen_tensors_are_saved_byte_for_byte_beside_those_that_learned") {
  const TempDir dir;
  write_formula_file(dir / "w.safetensors", "resnet18", with_classes(3));
  LoadedModel loaded = models::load_model("resnet18", dir / "w.safetensors");
  models::set_learning(loaded,
                       [](const std::string& name, const layers::Parameter&) { return name.starts_with("fc"); });
  struct Toucher : layers::Visitor {
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      if (name == "fc.bias") parameter.master().f32()[1] = 7;
    }
  } toucher;
  loaded.model.visit(toucher);
  models::save_model(loaded, dir / "saved", {{"vtl.run", "test"}});
  const io::SafetensorsFile before(dir / "w.safetensors"), after(dir / "saved/model.safetensors");
  CHECK(after.metadata("vtl.run") == "test");
  CHECK(after.metadata("vtl.tag") == "vtl");
  CHECK(after.metadata("vtl.base") == "resnet18.a1_in1k");
  CHECK(after.metadata("vtl.base_sha256") == before.sha256());
  for (int64_t i = 0; i < before.size(); ++i) {
    std::vector<std::byte> a(before[i].bytes()), b(a.size());
    before.read_raw(before[i], a);
    after.read_raw(*after.find(before.name(i)), b);
    CHECK_MESSAGE((a == b) == (before.name(i) != "fc.bias"), before.name(i));
  }
}

TEST_CASE("models_from_scratch_are_saved_and_loaded") {
  const TempDir dir;
  LoadOptions options = load_options(small_vit());
  options.model.classes = {};
  options.class_names = {"a", "b"};
  const LoadedModel made = models::scratch_model("vit_tiny_patch16_224", options);
  CHECK_FALSE(made.source);
  CHECK(made.report.random.size() == 152);
  models::save_model(made, dir / "saved");
  const LoadedModel again = models::load_model("", dir / "saved");
  CHECK(again.model.facts.class_names == options.class_names);
  const Tensor images = formula_images(2, 64);
  const Tensor a = made.model.forward(images), b = again.model.forward(images);
  CHECK(std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

TEST_CASE("damaged_values_are_refused_all_at_once") {
  const TempDir dir;
  auto tensors = formula_tensors(models::describe_model("resnet18", with_classes(3)), own);
  for (FileTensor& t : tensors) {
    if (t.name == "layer1.1.bn2.running_var") t.values.f32()[2] = -1;
    if (t.name == "layer1.1.conv1.weight") t.values.f32()[5] = t.values.f32()[6] = NAN;
    if (t.name == "fc.bias") t.values.f32()[0] = INFINITY;
  }
  write_weights(dir / "w.safetensors", tensors);
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    LoadOptions options = load_options();
    options.model.precision = precision;
    const Error error = error_of([&] { models::load_model("resnet18", dir / "w.safetensors", options); });
    says(error, "w.safetensors: 3 tensors");
    says(error, "layer1.1.bn2.running_var (1 of 64, a variance)");
    says(error, "layer1.1.conv1.weight (2 of 36864)");
    says(error, "fc.bias (1 of 3)");
  }
}

TEST_CASE("files_are_identified_by_the_models_they_fit") {
  const TempDir dir;
  write_formula_file(dir / "w.safetensors", "deit_tiny_patch16_224", with_classes(10));
  const models::Identified found = models::identify(io::WeightFile(dir / "w.safetensors"));
  CHECK(found.dialect == "timm");
  CHECK(std::find(found.models.begin(), found.models.end(), "deit_tiny_patch16_224") != found.models.end());
  CHECK(std::find(found.models.begin(), found.models.end(), "vit_tiny_patch16_224") != found.models.end());
}

// ---- real weights
// ----------------------------------------------------------------------------------------------------

TEST_CASE("real_weights_are_saved_with_the_same_tensor_bytes") {
  const fs::path weights = shared_path("weights/tf_efficientnet_lite0");
  if (weights.empty()) return;
  const TempDir dir;
  const LoadedModel loaded = models::load_model("", weights);
  CHECK(loaded.model.facts.name == "tf_efficientnet_lite0");
  models::save_model(loaded, dir / "saved");
  CHECK(data_region(dir / "saved/model.safetensors") == data_region(weights / "model.safetensors"));
}

Tensor normalised(const io::Image& image, const models::Preprocessing& p) {
  const Tensor made = Tensor::empty({1, p.height, p.width, 3}, DType::f32, Device::cpu());
  for (int64_t i = 0; i < made.numel(); ++i) {
    const auto c = static_cast<size_t>(i % 3);
    made.f32()[i] = (static_cast<float>(image.rgb[static_cast<size_t>(i)]) / 255.0f - p.mean[c]) / p.std[c];
  }
  return made;
}

TEST_CASE("real_weights_classify_photographs_as_timm_does") {
  const fs::path weights = shared_path("weights/tf_efficientnet_lite0"), samples = shared_path("data/imagenet_samples");
  if (weights.empty() || samples.empty()) return;
  const json expected = io::read_json_file(weights / "expected.json");
  const LoadedModel loaded = models::load_model("tf_efficientnet_lite0", weights / "model.safetensors");
  int right = 0, top5 = 0;
  for (const json& want : expected.at("predictions")) {
    const std::string file = want.at("file").get<std::string>();
    CAPTURE(file);
    const io::Image image = io::preprocess(io::read_image((samples / file).string()), loaded.model.facts.preprocessing);
    const Tensor logits = loaded.model.forward(normalised(image, loaded.model.facts.preprocessing));
    const float* begin = logits.f32();
    const auto best = std::max_element(begin, begin + 1000) - begin,
               truth = static_cast<std::ptrdiff_t>(want.at("true_index").get<int64_t>());
    CHECK(best == want.at("best_index").get<int64_t>());
    CHECK(begin[best] == doctest::Approx(want.at("best_logit").get<double>()).epsilon(0.005));
    right += best == truth;
    top5 += std::count_if(begin, begin + 1000, [&](float v) { return v > begin[truth]; }) < 5;
  }
  CHECK(right == expected.at("top1").get<int>());
  CHECK(top5 == expected.at("top5").get<int>());
}

}  // namespace
}  // namespace vtl::test
