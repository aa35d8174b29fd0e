// The demonstration: draws pictures, pretrains small backbones on one task, fine-tunes them for another one with each
// strategy, and tells what came out. All numbers are measured.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// How much is drawn and learned. The defaults keep two cores busy for a few minutes.
struct DemoWork {
  int64_t source_train = 100, source_val = 8;  // pictures of each class
  int64_t target_train = 4, target_val = 25;
  int64_t input_size = 64;                                            // of the two backbones of the demonstration
  int64_t resnet_epochs = 3, vit_epochs = 28;                         // of pretraining
  int64_t scratch_epochs = 30, head_epochs = 20, tuning_epochs = 15;  // tuning: partial, full and lora

  // So little that it only shows that everything runs.
  static DemoWork quick();
};

struct DemoOptions {
  std::filesystem::path out;  // made; must not be there, or be empty
  ModelOptions backbone;      // the user's own, in place of the two pretrained ones; both fields or none
  RunOptions run;  // batch size, threads, precision, ...; no input size: the demonstration's, or the own backbone's
  uint64_t seed = 0;
  std::vector<Strategy> strategies{Strategy::scratch, Strategy::head, Strategy::partial, Strategy::full,
                                   Strategy::lora};
  DemoWork work;
};

// A backbone and where its weights are.
struct DemoBackbone {
  std::string model;
  std::filesystem::path weights;   // a model directory, or what the user gave
  double seconds = 0;              // of pretraining
  std::optional<double> accuracy;  // on the source task; none for the user's own
};

// A line of the table.
struct DemoRow {
  std::string model;
  Strategy strategy = Strategy::scratch;
  int64_t trainable_parameters = 0, total_parameters = 0;
  double seconds = 0;
  double accuracy = 0;           // on the target's validation pictures, at the best epoch
  std::filesystem::path folder;  // of the run
};

struct DemoResult {
  std::vector<DemoBackbone> backbones;
  std::vector<DemoRow> rows;
  std::filesystem::path source, target;  // folders of pictures; source is empty with the user's own backbone
  double seconds = 0;
  bool stopped = false;  // on request; the rows are those that were finished
};

struct DemoCallbacks {
  std::function<void(const std::string& what)> on_stage;  // "resnet18: full"
  std::function<void(const DemoRow& row)> on_row;
  Callbacks training;  // of each run
};

// Throws bad_argument when the folder is not empty or only one of model and weights is given, and what train() throws.
DemoResult run_demo(const DemoOptions& options, const DemoCallbacks& callbacks = {});

// {"rows": [...], "backbones": [...], "files": {...}, "seconds"}
std::string to_json(const DemoResult& result);

}  // namespace vtl::finetune
