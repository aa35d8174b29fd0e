#include "vtl/tools/finetune/evaluate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vtl/core/error.h"
#include "vtl/io/png_writer.h"
#include "vtl/tests/harness/errors.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/tools/finetune/json.h"

using namespace vtl;
using namespace vtl::finetune;
namespace fs = std::filesystem;

namespace {

models::LoadedModel make_model(std::vector<std::string> classes) {
  models::LoadOptions options;
  options.model.height = options.model.width = 32;
  options.class_names = std::move(classes);
  return models::scratch_model("resnet18", options);
}

RunOptions quick(int64_t batch_size = 4) {
  RunOptions options;
  options.batch_size = batch_size;
  options.precision = Precision::fp32;
  options.threads = 1;
  return options;
}

void write_picture(const fs::path& path, uint8_t shade) {
  fs::create_directories(path.parent_path());
  io::Image image{40, 36, std::vector<uint8_t>(40 * 36 * 3, shade)};
  for (size_t i = 0; i < image.rgb.size(); i += 7) image.rgb[i] = static_cast<uint8_t>(255 - shade);
  io::write_png(path, image);
}

// Three pictures of each of two classes, and one file that is none.
void write_folder(const fs::path& folder) {
  for (int i = 0; i < 3; ++i) {
    write_picture(folder / "cat" / (std::to_string(i) + ".png"), static_cast<uint8_t>(20 * i));
    write_picture(folder / "dog" / (std::to_string(i) + ".png"), static_cast<uint8_t>(120 + 20 * i));
  }
  std::ofstream(folder / "dog" / "broken.png") << "no picture at all";
}

}  // namespace

TEST_CASE("predictions come in the order of the files, with an error in the place of a broken one") {
  const test::TempDir folder;
  write_folder(folder.path());
  const models::LoadedModel model = make_model({"cat", "dog"});
  int64_t done = 0;
  const std::vector<Prediction> found = predict(model, {folder / "dog", folder / "cat/1.png", folder / "missing.png"},
                                                quick(2), 5, [&](int64_t now, int64_t) { done = now; });
  REQUIRE(found.size() == 6);
  CHECK(done == 6);
  CHECK(found[3].path == (folder / "dog/broken.png").string());
  CHECK_FALSE(found[3].error.empty());
  CHECK(found[3].top.empty());
  CHECK(found[4].path == (folder / "cat/1.png").string());
  CHECK_FALSE(found[5].error.empty());
  for (const size_t i : {0, 1, 2, 4}) {
    CAPTURE(i);
    REQUIRE(found[i].error.empty());
    REQUIRE(found[i].top.size() == 2);
    REQUIRE(found[i].logits.size() == 2);
    CHECK(found[i].top[0].probability + found[i].top[1].probability == doctest::Approx(1));
    CHECK(found[i].top[0].probability >= found[i].top[1].probability);
    const auto best = static_cast<size_t>(found[i].top[0].index);
    CHECK(found[i].logits[best] >= found[i].logits[1 - best]);
    CHECK(found[i].top[0].label == (best == 0 ? "cat" : "dog"));
    // A batch of another size sees the same pictures.
    const std::vector<Prediction> alone = predict(model, {found[i].path}, quick(1), 1);
    CHECK(alone.at(0).logits[0] == doctest::Approx(found[i].logits[0]).epsilon(1e-4));
  }
  CHECK_THROWS_AS(predict(model, std::vector<fs::path>{}, quick()), Error);

  const auto json = nlohmann::json::parse(to_json(model.model.facts, found, {.logits = true}));
  CHECK(json["classes"] == std::vector<std::string>{"cat", "dog"});
  CHECK(json["predictions"].size() == 6);
  CHECK(json["predictions"][3].contains("error"));
  CHECK(json["predictions"][0]["logits"].size() == 2);
  CHECK(json["predictions"][0]["label"] == found[0].top[0].label);
  CHECK(json["predictions"][0]["top"].size() == 2);
  CHECK_FALSE(nlohmann::json::parse(to_json(model.model.facts, found))["predictions"][0].contains("logits"));
}

TEST_CASE("a data folder is evaluated by the names of its classes and broken files are named") {
  const test::TempDir folder;
  write_folder(folder.path());
  // Of a model that knows the classes in another order, and one more.
  const models::LoadedModel model = make_model({"dog", "eel", "cat"});
  const Evaluation found = evaluate(model, folder.path(), quick());
  CHECK(found.metrics.images == 6);
  REQUIRE(found.metrics.per_class.size() == 3);
  CHECK(found.metrics.per_class[0].name == "dog");
  CHECK(found.metrics.per_class[0].support == 3);
  CHECK(found.metrics.per_class[1].support == 0);
  CHECK(found.metrics.per_class[2].support == 3);
  REQUIRE(found.bad_files.size() == 1);
  CHECK(found.bad_files[0].path == (folder / "dog/broken.png").string());
  int64_t right = 0;
  for (const Prediction& p : predict(model, {folder / "cat"}, quick())) right += p.top[0].label == "cat";
  for (const Prediction& p : predict(model, {folder / "dog"}, quick()))
    right += p.error.empty() && p.top[0].label == "dog";
  CHECK(right == std::llround(found.metrics.accuracy * 6));

  const auto json = nlohmann::json::parse(to_json(found));
  for (const char* key : {"images", "loss", "accuracy", "top5", "macro_f1", "auc", "per_class", "confusion"})
    CHECK(json.contains(key));
  for (const char* key : {"class", "precision", "recall", "f1", "support"}) CHECK(json["per_class"][0].contains(key));
  CHECK_THROWS_AS(evaluate(make_model({"ant", "bee"}), folder.path(), quick()), Error);
}

TEST_CASE("features are what the head sees of every picture that can be read") {
  const test::TempDir folder;
  write_folder(folder.path());
  const Features found = features(make_model({"cat", "dog"}), folder.path(), quick());
  CHECK(found.width == 512);
  CHECK(found.paths.size() == 6);
  CHECK(found.labels == std::vector<int64_t>{0, 0, 0, 1, 1, 1});
  CHECK(found.values.size() == 6 * 512);
  CHECK(found.classes == std::vector<std::string>{"cat", "dog"});
  CHECK(found.bad_files.size() == 1);
  for (const float value : found.values) CHECK(value >= 0);  // behind a relu
}

TEST_CASE("of a model without class names the folders are indices") {
  models::LoadOptions options;
  options.model.height = options.model.width = 32;
  options.model.classes = 30;
  const models::LoadedModel model = models::scratch_model("resnet18", options);
  const test::TempDir folder;
  write_picture(folder / "data/6/a.png", 20);
  write_picture(folder / "data/26/b.png", 200);
  const Metrics found = evaluate(model, folder / "data", quick()).metrics;
  REQUIRE(found.per_class.size() == 30);
  CHECK(found.per_class[6].support == 1);
  CHECK(found.per_class[26].support == 1);
  CHECK(found.per_class[26].name == "26");
  int64_t right = 0;
  for (const char* label : {"6", "26"})
    right += predict(model, {folder / "data" / label}, quick()).at(0).top.at(0).label == label;
  CHECK(right == std::llround(found.accuracy * 2));

  write_folder(folder / "named");
  const auto evaluate_names = [&] { evaluate(model, folder / "named", quick()); };
  CHECK(test::kind_of(evaluate_names) == ErrorKind::bad_data);
  CHECK_THROWS_WITH(evaluate_names(), doctest::Contains("indices 0 to 29"));
}

TEST_CASE("a model without a classifier gives features and nothing else") {
  const test::TempDir folder;
  write_folder(folder / "data");
  models::LoadOptions options;
  options.model.height = options.model.width = 32;
  options.model.classes = 0;
  models::save_model(models::scratch_model("resnet18", options), folder / "headless");
  ModelOptions named;
  named.model = "resnet18";
  named.weights = folder / "headless/model.safetensors";
  const models::LoadedModel model = open_model(named, quick());
  CHECK(features(model, folder / "data", quick()).width == 512);
  CHECK(test::kind_of([&] { predict(model, {folder / "data/cat"}, quick()); }) == ErrorKind::bad_model);
  CHECK(test::kind_of([&] { evaluate(model, folder / "data", quick()); }) == ErrorKind::bad_model);
}

TEST_CASE("one picture of one class is enough for features") {
  const test::TempDir folder;
  write_picture(folder / "data/only/a.png", 20);
  CHECK(features(make_model({"cat", "dog"}), folder / "data", quick()).classes == std::vector<std::string>{"only"});
}

TEST_CASE("another crop than the model's is noted") {
  const test::TempDir folder;
  models::save_model(make_model({"cat", "dog"}), folder / "model");
  RunOptions options = quick();
  CHECK(open_model(folder / "model", options).report.notes.empty());
  options.crop_pct = 0.5;
  const auto notes = open_model(folder / "model", options).report.notes;
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].starts_with("crop 0.5 as asked for"));
}

TEST_CASE("what is no model is refused") {
  const test::TempDir folder;
  CHECK_THROWS_AS(open_model(folder / "nowhere", quick()), Error);
  CHECK_THROWS_AS(open_model(folder.path(), quick()), Error);
  ModelOptions unknown;
  unknown.model = "resnet19";
  unknown.weights = folder / "weights.safetensors";
  CHECK_THROWS_AS(open_model(unknown, quick()), Error);
}

TEST_CASE("metrics and errors come through JSON unchanged") {
  Metrics m = classification_metrics({3, {0.2, 0.5, 0.3, 0.1, 0.1, 0.8, 0.6, 0.3, 0.1}, {1, 2, 1}}, {"a", "b", "c"});
  const Metrics again = metrics_from_json(to_json(m));
  CHECK(again.loss == m.loss);
  CHECK(again.accuracy == m.accuracy);
  CHECK(again.auc == m.auc);
  CHECK(again.confusion == m.confusion);
  REQUIRE(again.per_class.size() == 3);
  CHECK(again.per_class[1].f1 == m.per_class[1].f1);
  CHECK(again.per_class[0].auc == m.per_class[0].auc);

  const auto error = nlohmann::json::parse(to_json(Error(ErrorKind::bad_data, "a \"broken\" file", {"one", "two"})));
  CHECK(error["error"]["kind"] == "bad_data");
  CHECK(error["error"]["message"] == "a \"broken\" file");
  CHECK(error["error"]["problems"].size() == 2);
  // Names of files need not be UTF-8.
  CHECK_NOTHROW(to_json(Event(BadFile{"caf\xe9.jpg", "broken"})));
}
