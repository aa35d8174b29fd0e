// Loads a model, predicts, fine-tunes it with low-rank adapters on images in memory, and saves it: all from the library.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <variant>

#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/evaluate.h"
#include "vtl/tools/finetune/trainer.h"

namespace {

constexpr int64_t kSide = 32;

// Class 0 is bright at the top, class 1 at the bottom.
vtl::io::Sample picture(int64_t label, int number) {
  auto image = std::make_shared<vtl::io::Image>();
  image->width = image->height = kSide;
  image->rgb.resize(kSide * kSide * 3);
  for (int64_t y = 0; y < kSide; ++y)
    for (int64_t x = 0; x < kSide * 3; ++x)
      image->rgb[static_cast<size_t>(y * kSide * 3 + x)] =
          static_cast<uint8_t>(((y < kSide / 2) == (label == 0) ? 160 : 40) + (x * 7 + y * 13 + number * 29) % 60);
  return {"picture " + std::to_string(number), image, label};
}

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "consumer: %s\n", what);
  std::exit(1);
}

}  // namespace

int main(int, char** argv) {
  const std::filesystem::path folder = argv[1];

  // A model file to begin with.
  vtl::models::LoadOptions fresh;
  fresh.model.classes = 2;
  fresh.model.height = fresh.model.width = kSide;
  vtl::models::save_model(vtl::models::scratch_model("resnet18", fresh), folder / "start");

  vtl::models::LoadOptions load;
  load.class_names = {"top", "bottom"};
  load.head = vtl::models::HeadPolicy::fresh;
  load.model.height = load.model.width = kSide;
  vtl::models::LoadedModel model = vtl::models::load_model("resnet18", folder / "start", load);

  vtl::io::Dataset data;
  data.classes = {"top", "bottom"};
  for (int i = 0; i < 24; ++i) (i < 16 ? data.train : data.val).push_back(picture(i % 2, i));

  vtl::finetune::TrainOptions options;
  options.strategy = vtl::finetune::Strategy::lora;
  options.rank = 4;
  options.epochs = 4;
  options.lr = 1e-2;
  options.run.batch_size = 8;
  options.augment = vtl::io::AugmentPreset::none;

  int steps = 0;
  vtl::finetune::Callbacks callbacks;
  callbacks.on_event = [&](const vtl::finetune::Event& event) { steps += std::holds_alternative<vtl::finetune::StepEvent>(event); };
  const auto result = vtl::finetune::train(options, std::move(model), data, callbacks);
  require(steps == 8, "a callback for each of 8 steps");
  require(result.best.accuracy == 1.0, "all 8 validation pictures right");

  vtl::models::save_model(result.model, folder / "tuned");
  const auto again = vtl::finetune::open_model(folder / "tuned");
  const auto predictions = vtl::finetune::predict(again, data.val);
  require(predictions.size() == data.val.size(), "a prediction for each picture");
  require(predictions[0].top[0].label == "top" && predictions[1].top[0].label == "bottom", "the labels of the saved model");
  std::printf("consumer: %d steps, accuracy %.2f\n", steps, result.best.accuracy);
}
