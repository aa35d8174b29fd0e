// Running a model over images without learning: metrics, labels, features.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "vtl/io/dataset.h"
#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// A run folder (its best/) or a model directory.
models::LoadedModel open_model(const std::filesystem::path& what, const RunOptions& options = {});
// A registry name and a weights file, with the file's own head if it has one.
models::LoadedModel open_model(const ModelOptions& model, const RunOptions& options = {});

// images done, images in all
using Progress = std::function<void(int64_t, int64_t)>;

// evaluate() and predict() throw bad_model for a model without a classifier.

struct Evaluation {
  Metrics metrics;
  std::vector<BadFile> bad_files;
  int64_t trained_on = 0;  // pictures that were left out because the run saw them in training
  double seconds = 0;
};
// Targets are indices of the model's classes.
Evaluation evaluate(const models::LoadedModel& model, const std::vector<io::Sample>& images,
                    const RunOptions& options = {}, const Progress& progress = {});
// `data` as io::open_evaluation_set takes it; its classes are those of the model by name, or by index ("26") where the
// model has no names. Pictures that `run`, a run folder, trained on are left out where that run made the split itself.
Evaluation evaluate(const models::LoadedModel& model, const std::filesystem::path& data, const RunOptions& options = {},
                    const Progress& progress = {}, const std::filesystem::path& run = {});

struct Ranked {
  std::string label;
  int64_t index = 0;
  double probability = 0;
};
struct Prediction {
  std::string path;
  std::string error;        // not empty: the file could not be read, and the rest is empty
  std::vector<Ranked> top;  // the best first, at most `top` of them
  std::vector<float> logits;
};
// In the order of `paths`; a folder among them stands for the images in it, by name.
std::vector<Prediction> predict(const models::LoadedModel& model, const std::vector<std::filesystem::path>& paths,
                                const RunOptions& options = {}, int64_t top = 5, const Progress& progress = {});
// The same for images in memory.
std::vector<Prediction> predict(const models::LoadedModel& model, const std::vector<io::Sample>& images,
                                const RunOptions& options = {}, int64_t top = 5, const Progress& progress = {});

// What the head sees of every image, whether the model has one or not.
struct Features {
  int64_t width = 0;
  std::vector<float> values;       // [images, width]
  std::vector<std::string> paths;  // [images]
  std::vector<int64_t> labels;     // [images]
  std::vector<std::string> classes;
  std::vector<BadFile> bad_files;
};
// `data` as io::open_pictures takes it.
Features features(const models::LoadedModel& model, const std::filesystem::path& data, const RunOptions& options = {},
                  const Progress& progress = {});

}  // namespace vtl::finetune
