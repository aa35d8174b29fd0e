#include "vtl/tools/finetune/demo.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/io/dataset.h"
#include "vtl/io/png_writer.h"
#include "vtl/models/pretrained.h"
#include "vtl/tests/harness/pictures.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/tools/finetune/demo_images.h"

using namespace vtl;
using namespace vtl::finetune;

namespace {

// The share of values that differ clearly, more than noise does.
double difference(const io::Image& a, const io::Image& b) {
  REQUIRE(a.rgb.size() == b.rgb.size());
  int64_t clear = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) clear += std::abs(a.rgb[i] - b.rgb[i]) > 24;
  return static_cast<double>(clear) / static_cast<double>(a.rgb.size());
}

bool reads_png() {
  if (io::can_decode(io::ImageFormat::png)) return true;
  MESSAGE("skipped: this build reads no PNG");
  return false;
}

}  // namespace

TEST_CASE("a written PNG file holds the pixels it was given") {
  if (!reads_png()) return;
  const test::TempDir folder;
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{1, 1}, {31, 33}, {200, 3}}) {
    const io::Image image = test::generated_picture(width, height, 5);
    io::write_png(folder / "picture.png", image);
    const io::Image read = io::read_image((folder / "picture.png").string());
    CHECK(read.width == width);
    CHECK(read.height == height);
    CHECK(read.rgb == image.rgb);
  }
}

TEST_CASE("a part of a picture is written without what surrounds it") {
  if (!reads_png()) return;
  const io::Image image = test::generated_picture(20, 10, 1);
  const io::Image read = io::decode_image(io::encode_png(io::ImageView(image).crop(4, 3, 7, 5)), "part");
  CHECK(read.width == 7);
  CHECK(read.height == 5);
  CHECK(std::equal(read.rgb.begin(), read.rgb.begin() + 21, image.rgb.begin() + (3 * 20 + 4) * 3));
}

TEST_CASE("a PNG without pixels or without a folder is refused by name") {
  if (!reads_png()) return;
  CHECK_THROWS_AS(io::encode_png(io::ImageView()), Error);
  const test::TempDir folder;
  try {
    io::write_png(folder / "absent" / "picture.png", test::generated_picture(2, 2, 0));
    FAIL("written into a folder that is not there");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::io);
    CHECK(std::string(error.what()).find("absent/picture.png") != std::string::npos);
  }
}

TEST_CASE("the demonstration's tasks share no class and list theirs in byte order") {
  const auto &source = demo_classes(DemoTask::source), &target = demo_classes(DemoTask::target);
  CHECK(source.size() > target.size());
  CHECK(target.size() > 5);
  for (const auto* classes : {&source, &target}) {
    CHECK(std::is_sorted(classes->begin(), classes->end()));
    CHECK(std::adjacent_find(classes->begin(), classes->end()) == classes->end());
  }
  std::vector<std::string> shared;
  std::set_intersection(source.begin(), source.end(), target.begin(), target.end(), std::back_inserter(shared));
  CHECK(shared.empty());
}

TEST_CASE("a drawing depends on seed, task, class and index and on nothing else") {
  const io::Image one = draw_demo_image(DemoTask::target, 3, 7, 11, 40);
  CHECK(one.width == 40);
  CHECK(one.height == 40);
  CHECK(one.rgb == draw_demo_image(DemoTask::target, 3, 7, 11, 40).rgb);
  CHECK(difference(one, draw_demo_image(DemoTask::target, 3, 8, 11, 40)) > 0.2);
  CHECK(difference(one, draw_demo_image(DemoTask::source, 3, 7, 11, 40)) > 0.2);
  CHECK(difference(one, draw_demo_image(DemoTask::target, 4, 7, 11, 40)) > 0.2);
  CHECK(difference(one, draw_demo_image(DemoTask::target, 3, 7, 12, 40)) > 0.2);
}

TEST_CASE("colour does not tell the class of a drawing") {
  // The mean colour of a class differs from that of all pictures by no more than chance: a mean of n pictures whose own
  // means spread by s stays within 4 s / sqrt(n).
  constexpr int64_t kPictures = 24, kSide = 16;
  const auto classes = static_cast<int64_t>(demo_classes(DemoTask::target).size());
  for (size_t channel = 0; channel < 3; ++channel) {
    std::vector<double> of_class;
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < classes; ++c) {
      double class_sum = 0;
      for (int64_t i = 0; i < kPictures; ++i) {
        const io::Image image = draw_demo_image(DemoTask::target, c, 0, i, kSide);
        double mean = 0;
        for (size_t at = channel; at < image.rgb.size(); at += 3) mean += image.rgb[at];
        mean /= kSide * kSide;
        class_sum += mean;
        squares += mean * mean;
      }
      of_class.push_back(class_sum / kPictures);
      sum += class_sum;
    }
    const double count = static_cast<double>(classes * kPictures), mean = sum / count;
    const double spread = std::sqrt(squares / count - mean * mean);
    for (const double value : of_class)
      CHECK(std::abs(value - mean) < 4 * spread / std::sqrt(static_cast<double>(kPictures)));
  }
}

TEST_CASE("written drawings form a data set and are the same for any number of threads") {
  if (!reads_png()) return;
  const test::TempDir folder;
  const int threads = compute_threads();
  write_demo_images(folder / "a" / "train", DemoTask::target, 5, 0, 3);
  write_demo_images(folder / "a" / "val", DemoTask::target, 5, 3, 2);
  set_compute_threads(1);
  write_demo_images(folder / "b" / "train", DemoTask::target, 5, 0, 3);
  set_compute_threads(threads);

  io::Dataset data = io::open_dataset((folder / "a").string());
  CHECK(data.classes == demo_classes(DemoTask::target));
  CHECK(data.train.size() == 3 * data.classes.size());
  CHECK(data.val.size() == 2 * data.classes.size());
  CHECK(io::drop_bad_files(data, 0, io::ScanDepth::pixels).empty());

  const std::filesystem::path file = std::filesystem::path(data.classes[4]) / "0002.png";
  CHECK(test::bytes_of_file(folder / "a" / "train" / file) == test::bytes_of_file(folder / "b" / "train" / file));
  CHECK(io::read_image((folder / "a" / "train" / file).string()).rgb == draw_demo_image(DemoTask::target, 4, 5, 2).rgb);
}

TEST_CASE("a small demonstration runs through and leaves what it names") {
  if (!reads_png()) return;
  const test::TempDir folder;
  DemoOptions options;
  options.out = folder / "demo";
  options.run.precision = Precision::fp32;
  options.work = DemoWork::quick();
  options.work.input_size = 32;
  options.strategies = {Strategy::head, Strategy::lora};
  std::vector<std::string> stages;
  std::vector<DemoRow> rows;
  DemoCallbacks callbacks;
  callbacks.on_stage = [&](const std::string& what) { stages.push_back(what); };
  callbacks.on_row = [&](const DemoRow& row) { rows.push_back(row); };
  const DemoResult result = run_demo(options, callbacks);

  CHECK(!result.stopped);
  REQUIRE(result.backbones.size() == 2);
  REQUIRE(result.rows.size() == 4);
  CHECK(rows.size() == 4);
  CHECK(stages.size() == 2 + 2 + 4);  // drawing, pretraining, fine-tuning
  for (const DemoBackbone& backbone : result.backbones) {
    CHECK(std::filesystem::is_regular_file(backbone.weights / "model.safetensors"));
    CHECK(backbone.accuracy.has_value());
  }
  for (const DemoRow& row : result.rows) {
    CHECK(row.trainable_parameters > 0);
    CHECK(row.trainable_parameters < row.total_parameters);
    CHECK(row.seconds > 0);
    CHECK(row.accuracy >= 0);
    CHECK(row.accuracy <= 1);
    const auto classes = models::load_model("", row.folder / "best").model.facts.class_names;
    CHECK(classes == demo_classes(DemoTask::target));
  }
  const auto json = nlohmann::json::parse(to_json(result));
  CHECK(json["rows"].size() == 4);
  CHECK(json["rows"][0]["strategy"] == "head");
  CHECK(json["files"]["target"] == result.target.string());

  // A second one does not touch it.
  CHECK_THROWS_WITH_AS(run_demo(options), doctest::Contains("is not empty"), Error);

  // Its weights can stand in for the user's own.
  options.out = folder / "own";
  options.backbone = {"resnet18", result.backbones[0].weights / "model.safetensors", models::HeadPolicy::automatic};
  options.run.input_size = 32;
  options.strategies = {Strategy::head};
  const DemoResult own = run_demo(options);
  CHECK(own.source.empty());
  REQUIRE(own.rows.size() == 1);
  CHECK(own.rows[0].model == "resnet18");
  CHECK(!own.backbones[0].accuracy.has_value());
}

TEST_CASE("a demonstration can be stopped") {
  if (!reads_png()) return;
  const test::TempDir folder;
  DemoOptions options;
  options.out = folder / "demo";
  options.work = DemoWork::quick();
  options.work.input_size = 32;
  DemoCallbacks callbacks;
  callbacks.training.stop_requested = [] { return true; };
  const DemoResult result = run_demo(options, callbacks);
  CHECK(result.stopped);
  CHECK(result.rows.empty());
  CHECK(result.backbones.size() == 1);
}

TEST_CASE("an own backbone takes a name and weights") {
  DemoOptions options;
  options.out = "never-made";
  options.backbone.model = "resnet18";
  CHECK_THROWS_WITH_AS(run_demo(options), doctest::Contains("--weights: missing"), Error);
  options.backbone = {"", "file.safetensors", models::HeadPolicy::automatic};
  CHECK_THROWS_WITH_AS(run_demo(options), doctest::Contains("--model: missing"), Error);
}
