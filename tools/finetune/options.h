// What a run is asked to do: one field for each flag of the contract, with its default, and flags by name for command
// lines and configuration files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/device.h"
#include "vtl/io/transform.h"
#include "vtl/models/pretrained.h"
#include "vtl/optim/optimizer.h"
#include "vtl/optim/schedule.h"

namespace vtl::finetune {

enum class Strategy { two_stage, head, partial, full, scratch, lora, bitfit };
// "two-stage", "head", ...
const char* name(Strategy strategy);

// by_strategy: what the plan of the strategy says.
enum class BatchNormChoice { by_strategy, train, frozen };
const char* name(BatchNormChoice choice);

// What to do when `out` holds a run that was stopped: continue when it was begun with the same options, never, or fail
// when it cannot be continued.
enum class ResumeChoice { automatic, off, on };
const char* name(ResumeChoice choice);

// What every command that runs a model takes.
struct RunOptions {
  Device device = Device::cpu();
  std::optional<Precision> precision;  // none: bf16 where the device computes in it natively, else fp32
  int threads = 0;                     // of compute; 0: as many as cores
  int workers = -1;                    // loader threads; 0: the compute threads read; -1: io::default_workers
  int64_t batch_size = 32;
  std::optional<int64_t> input_size;  // a side, in pixels; none: the model's
  std::optional<double> crop_pct;
};

// Which model: a registry name and a weights file, or a folder that names it.
struct ModelOptions {
  std::string model;
  std::filesystem::path weights;
  models::HeadPolicy head = models::HeadPolicy::automatic;
};

struct TrainOptions {
  std::filesystem::path data;
  ModelOptions model;
  RunOptions run;

  Strategy strategy = Strategy::two_stage;
  int64_t unfreeze = 2;
  int64_t rank = 8;
  std::optional<double> alpha;       // none: rank
  std::vector<std::string> targets;  // empty: by family

  // Of all phases together; two-stage gives the first half of them to the head.
  std::optional<int64_t> epochs;
  std::optional<int64_t> max_steps;
  int64_t accumulate = 1;

  optim::OptimizerKind optimizer = optim::OptimizerKind::adamw;
  double momentum = 0.9;
  double weight_decay = 0.05;
  std::optional<double> lr, head_lr, backbone_lr;
  double layer_decay = 1;
  optim::ScheduleKind schedule = optim::ScheduleKind::cosine;
  optim::Warmup warmup;
  double clip = 1.0;
  BatchNormChoice batchnorm = BatchNormChoice::by_strategy;

  double label_smoothing = 0;
  io::AugmentPreset augment = io::AugmentPreset::standard;
  double dropout = 0, drop_path = 0;
  int64_t early_stop = 0;

  bool shuffle = true;
  uint64_t seed = 0;
  double val_split = 20;      // per cent
  double max_bad = 1;         // per cent
  std::filesystem::path out;  // empty: nothing is written
  ResumeChoice resume = ResumeChoice::automatic;
  bool dry_run = false;              // the plan only
  std::vector<std::string> command;  // that asked for all this, for run.json
};

// bad_argument `--lr: ...` for the first field that is out of range, or for fields that contradict each other.
void validate(const RunOptions& options);
void validate(const TrainOptions& options);

// A flag as help lists it. `value` is empty for a switch.
struct Flag {
  const char* name;          // "--lr"
  const char* value;         // "RATE"
  const char* default_text;  // "by strategy"
  const char* help;
};
// Of `train`, in the contract's order, and of every command that runs a model. `data`, `--json` and the like are not
// among them.
std::span<const Flag> train_flags();
std::span<const Flag> run_flags();

// Sets the field of `flag` ("--lr") from its text, as it comes from a command line; switches take "on" or "off". Throws
// bad_argument that begins with the flag: what was written, what was expected, the nearest value for a misspelt name; a
// value of the contract that this version does not have is refused by name.
void set_flag(TrainOptions& options, std::string_view flag, std::string_view text);  // run flags too
void set_flag(RunOptions& options, std::string_view flag, std::string_view text);

// The name among `names` with the fewest edits from `text`; empty when none is close.
std::string nearest(std::string_view text, std::span<const std::string> names);

// What the strategy and optimizer choose where nothing was said.
int64_t default_epochs(Strategy strategy);
struct LearningRates {
  double head, backbone;  // backbone: whatever else learns
};
// With --lr, --head-lr and --backbone-lr taken into account; of the phase in which most learns.
LearningRates learning_rates(const TrainOptions& options);

// bf16 where none was asked for and the device computes in it natively.
Precision resolve_precision(const RunOptions& options);

}  // namespace vtl::finetune
