#include "vtl/tools/finetune/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "vtl/core/cpu.h"
#include "vtl/core/error.h"

namespace vtl::finetune {
namespace {

constexpr int64_t kMaxBatch = 65536, kMaxEpochs = 1'000'000, kMaxSteps = 1'000'000'000, kMaxAccumulate = 65536;
constexpr int64_t kMaxThreads = 1024, kMaxRank = 4096, kMaxSide = 8192;

// ---- one value from its text ---------------------------------------------------------------------------------------

[[noreturn]] void refuse(std::string_view flag, std::string_view text, const std::string& expected) {
  fail(ErrorKind::bad_argument, flag, ": \"", text, "\", expected ", expected);
}

int64_t whole_number(std::string_view flag, std::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool read = error == std::errc() && end == text.data() + text.size();
  if (!read || value < low || value > high) refuse(flag, text, concat("a whole number from ", low, " to ", high));
  return value;
}

double number(std::string_view flag, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) refuse(flag, text, "a number");
  return value;
}

// A number that may end in %.
double percentage(std::string_view flag, std::string_view text) {
  if (text.ends_with('%')) text.remove_suffix(1);
  return number(flag, text);
}

// `known` are this version's values, `later` those of the contract that come in another one.
template <class T>
T choice(std::string_view flag, std::string_view text, const std::vector<std::pair<std::string, T>>& known,
         const std::vector<std::string>& later = {}) {
  std::vector<std::string> names;
  for (const auto& [known_name, value] : known) {
    if (text == known_name) return value;
    names.push_back(known_name);
  }
  std::string list;
  for (const std::string& known_name : names) list += (list.empty() ? "" : ", ") + known_name;
  for (const std::string& other : later)
    if (text == other)
      fail(ErrorKind::bad_argument, flag, ": \"", text, "\" is not in this version, expected ",
           names.size() > 1 ? "one of " : "", list);
  const std::string near = nearest(text, names);
  refuse(flag, text, concat("one of ", list, near.empty() ? "" : "; did you mean " + near + "?"));
}

bool on_off(std::string_view flag, std::string_view text) {
  return choice<bool>(flag, text, {{"on", true}, {"off", false}});
}

Device device(std::string_view flag, std::string_view text) {
  if (text == "auto" || text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  if (text.starts_with("cuda:")) return Device::cuda(static_cast<int>(whole_number(flag, text.substr(5), 0, 63)));
  if (text == "simt") return Device::simt();
  refuse(flag, text, "auto, cpu, cuda or cuda:N");
}

std::vector<std::string> comma_list(std::string_view flag, std::string_view text) {
  std::vector<std::string> items;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end == begin) refuse(flag, text, "names separated by commas");
    items.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

optim::Warmup warmup(std::string_view flag, std::string_view text) {
  if (!text.ends_with('%'))
    return {static_cast<double>(whole_number(flag, text, 0, kMaxSteps)), optim::Warmup::Unit::steps};
  const double amount = percentage(flag, text);
  if (!(amount >= 0 && amount <= 100)) refuse(flag, text, "steps, or 0% to 100%");
  return {amount, optim::Warmup::Unit::percent};
}

// A flag that this version has only in its neutral value.
void only(std::string_view flag, std::string_view text, std::string_view neutral) {
  if (text != neutral)
    fail(ErrorKind::bad_argument, flag, ": \"", text, "\" is not in this version, only ", neutral, " is");
}

// ---- the tables ----------------------------------------------------------------------------------------------------

template <class Options>
struct Entry {
  Flag flag;
  std::function<void(Options&, std::string_view flag, std::string_view text)> set;
};

using Text = std::string_view;

const std::vector<Entry<RunOptions>>& run_table() {
  static const std::vector<Entry<RunOptions>> table = {
      {{"--device", "DEVICE", "auto", "auto, cpu, cuda or cuda:N"},
       [](RunOptions& o, Text flag, Text text) { o.device = device(flag, text); }},
      {{"--threads", "N", "all cores", "compute threads"},
       [](RunOptions& o, Text flag, Text text) {
         o.threads = static_cast<int>(whole_number(flag, text, 1, kMaxThreads));
       }},
      {{"--precision", "P", "auto", "auto, fp32 or bf16"},
       [](RunOptions& o, Text flag, Text text) {
         o.precision = choice<std::optional<Precision>>(
             flag, text, {{"auto", std::nullopt}, {"fp32", Precision::fp32}, {"bf16", Precision::bf16}});
       }},
      {{"--batch-size", "N", "32", "images a batch"},
       [](RunOptions& o, Text flag, Text text) { o.batch_size = whole_number(flag, text, 1, kMaxBatch); }},
      {{"--input-size", "PIXELS", "the model's", "side of the input"},
       [](RunOptions& o, Text flag, Text text) { o.input_size = whole_number(flag, text, 8, kMaxSide); }},
      {{"--crop-pct", "SHARE", "the model's", "what the centre crop leaves of the resized picture"},
       [](RunOptions& o, Text flag, Text text) { o.crop_pct = number(flag, text); }},
      {{"--workers", "N", "by cores", "threads that read images"},
       [](RunOptions& o, Text flag, Text text) {
         o.workers = static_cast<int>(whole_number(flag, text, 0, kMaxThreads));
       }},
  };
  return table;
}

const std::vector<Entry<TrainOptions>>& train_table() {
  using O = TrainOptions;
  static const std::vector<Entry<TrainOptions>> table = {
      {{"--model", "NAME", "", "registry name, with or without .tag"},
       [](O& o, Text, Text text) { o.model.model = text; }},
      {{"--weights", "PATH", "", "safetensors file, index.json or model directory"},
       [](O& o, Text, Text text) { o.model.weights = text; }},
      {{"--head", "POLICY", "auto", "auto, keep or new"},
       [](O& o, Text flag, Text text) {
         using enum models::HeadPolicy;
         o.model.head = choice<models::HeadPolicy>(flag, text, {{"auto", automatic}, {"keep", keep}, {"new", fresh}});
       }},
      {{"--strategy", "NAME", "two-stage", "two-stage, head, partial, full, lora, bitfit or scratch"},
       [](O& o, Text flag, Text text) {
         using enum Strategy;
         o.strategy = choice<Strategy>(flag, text,
                                       {{"two-stage", two_stage},
                                        {"head", head},
                                        {"partial", partial},
                                        {"full", full},
                                        {"lora", lora},
                                        {"bitfit", bitfit},
                                        {"scratch", scratch}},
                                       {"adapter", "progressive"});
       }},
      {{"--unfreeze", "N", "2", "partial: the last N blocks learn"},
       [](O& o, Text flag, Text text) { o.unfreeze = whole_number(flag, text, 0, 1000); }},
      {{"--rank", "N", "8", "lora: rank of the updates"},
       [](O& o, Text flag, Text text) { o.rank = whole_number(flag, text, 1, kMaxRank); }},
      {{"--alpha", "A", "rank", "lora: updates are scaled by alpha / rank"},
       [](O& o, Text flag, Text text) { o.alpha = number(flag, text); }},
      {{"--targets", "NAMES", "by family", "lora: layers to adapt, separated by commas"},
       [](O& o, Text flag, Text text) { o.targets = comma_list(flag, text); }},
      {{"--epochs", "N", "by strategy", "passes over the training images"},
       [](O& o, Text flag, Text text) { o.epochs = whole_number(flag, text, 1, kMaxEpochs); }},
      {{"--max-steps", "N", "none", "optimizer steps at most"},
       [](O& o, Text flag, Text text) { o.max_steps = whole_number(flag, text, 1, kMaxSteps); }},
      {{"--accumulate", "N", "1", "micro-batches an optimizer step"},
       [](O& o, Text flag, Text text) { o.accumulate = whole_number(flag, text, 1, kMaxAccumulate); }},
      {{"--optimizer", "NAME", "adamw", "adamw or sgd"},
       [](O& o, Text flag, Text text) {
         using enum optim::OptimizerKind;
         o.optimizer = choice<optim::OptimizerKind>(flag, text, {{"adamw", adamw}, {"sgd", sgd}});
       }},
      {{"--momentum", "M", "0.9", "of sgd"}, [](O& o, Text flag, Text text) { o.momentum = number(flag, text); }},
      {{"--weight-decay", "W", "0.05", "not of 1-D parameters, tokens and position embeddings"},
       [](O& o, Text flag, Text text) { o.weight_decay = number(flag, text); }},
      {{"--lr", "RATE", "by strategy", "peak learning rate of every group without its own flag"},
       [](O& o, Text flag, Text text) { o.lr = number(flag, text); }},
      {{"--head-lr", "RATE", "by strategy", "of the head"},
       [](O& o, Text flag, Text text) { o.head_lr = number(flag, text); }},
      {{"--backbone-lr", "RATE", "by strategy", "of everything else"},
       [](O& o, Text flag, Text text) { o.backbone_lr = number(flag, text); }},
      {{"--layer-decay", "FACTOR", "1", "multiplies the rate per block from the head down"},
       [](O& o, Text flag, Text text) { o.layer_decay = number(flag, text); }},
      {{"--schedule", "NAME", "cosine", "cosine, linear, step or constant"},
       [](O& o, Text flag, Text text) {
         using enum optim::ScheduleKind;
         o.schedule = choice<optim::ScheduleKind>(
             flag, text, {{"cosine", cosine}, {"linear", linear}, {"step", step}, {"constant", constant}},
             {"onecycle"});
       }},
      {{"--warmup", "STEPS|P%", "5%", "steps of rising rate; 0 is off"},
       [](O& o, Text flag, Text text) { o.warmup = warmup(flag, text); }},
      {{"--clip", "NORM", "1", "global gradient norm; 0 is off"},
       [](O& o, Text flag, Text text) { o.clip = number(flag, text); }},
      {{"--batchnorm", "MODE", "by strategy", "train or frozen"},
       [](O& o, Text flag, Text text) {
         o.batchnorm = choice<BatchNormChoice>(
             flag, text, {{"train", BatchNormChoice::train}, {"frozen", BatchNormChoice::frozen}});
       }},
      {{"--loss", "NAME", "ce", "ce"},
       [](O&, Text flag, Text text) {
         choice<bool>(flag, text, {{"ce", true}}, {"focal", "bce"});
       }},
      {{"--label-smoothing", "S", "0", "share of the target that all classes divide"},
       [](O& o, Text flag, Text text) { o.label_smoothing = number(flag, text); }},
      {{"--class-weights", "MODE", "none", "none"},
       [](O&, Text flag, Text text) {
         choice<bool>(flag, text, {{"none", true}}, {"balanced"});
       }},
      {{"--sampler", "MODE", "shuffle", "shuffle"},
       [](O&, Text flag, Text text) {
         choice<bool>(flag, text, {{"shuffle", true}}, {"balanced"});
       }},
      {{"--augment", "PRESET", "standard", "none, light, standard, strong or medical"},
       [](O& o, Text flag, Text text) {
         using enum io::AugmentPreset;
         o.augment = choice<io::AugmentPreset>(
             flag, text,
             {{"none", none}, {"light", light}, {"standard", standard}, {"strong", strong}, {"medical", medical}});
       }},
      {{"--mixup", "ALPHA", "0", "0"}, [](O&, Text flag, Text text) { only(flag, text, "0"); }},
      {{"--cutmix", "ALPHA", "0", "0"}, [](O&, Text flag, Text text) { only(flag, text, "0"); }},
      {{"--dropout", "P", "0", "before the head"}, [](O& o, Text flag, Text text) { o.dropout = number(flag, text); }},
      {{"--drop-path", "P", "0", "of the last block, less in those before"},
       [](O& o, Text flag, Text text) { o.drop_path = number(flag, text); }},
      {{"--ema", "DECAY", "0", "0"}, [](O&, Text flag, Text text) { only(flag, text, "0"); }},
      {{"--early-stop", "EPOCHS", "0", "stop after so many epochs without improvement; 0 is off"},
       [](O& o, Text flag, Text text) { o.early_stop = whole_number(flag, text, 0, kMaxEpochs); }},
      {{"--shuffle", "on|off", "on", "a new order every epoch"},
       [](O& o, Text flag, Text text) { o.shuffle = on_off(flag, text); }},
      {{"--seed", "N", "0", "of everything random"},
       [](O& o, Text flag, Text text) {
         o.seed = static_cast<uint64_t>(whole_number(flag, text, 0, std::numeric_limits<int64_t>::max()));
       }},
      {{"--val-split", "P%", "20%", "validation share where the data has no val/"},
       [](O& o, Text flag, Text text) { o.val_split = percentage(flag, text); }},
      {{"--max-bad", "P%", "1%", "unreadable files allowed"},
       [](O& o, Text flag, Text text) { o.max_bad = percentage(flag, text); }},
      {{"--out", "FOLDER", "runs/NAME", "where the run is written"}, [](O& o, Text, Text text) { o.out = text; }},
      {{"--resume", "auto|on|off", "auto", "continue the stopped run in --out"},
       [](O& o, Text flag, Text text) {
         o.resume = choice<ResumeChoice>(
             flag, text, {{"auto", ResumeChoice::automatic}, {"on", ResumeChoice::on}, {"off", ResumeChoice::off}});
       }},
      {{"--dry-run", "", "off", "print the plan and stop"},
       [](O& o, Text flag, Text text) { o.dry_run = on_off(flag, text); }},
  };
  return table;
}

template <class Options>
std::vector<Flag> flags_of(const std::vector<Entry<Options>>& table) {
  std::vector<Flag> flags;
  for (const auto& entry : table) flags.push_back(entry.flag);
  return flags;
}

template <class Options>
const Entry<Options>* find(const std::vector<Entry<Options>>& table, std::string_view flag) {
  const auto at = std::find_if(table.begin(), table.end(), [&](const auto& entry) { return flag == entry.flag.name; });
  return at == table.end() ? nullptr : &*at;
}

[[noreturn]] void unknown_flag(std::string_view flag, const std::vector<std::string>& names) {
  const std::string near = nearest(flag, names);
  fail(ErrorKind::bad_argument, flag, ": no such flag", near.empty() ? "" : "; did you mean " + near + "?");
}

// ---- ranges --------------------------------------------------------------------------------------------------------

void in_range(const char* flag, double value, double low, double high) {
  // Written so that NaN fails.
  if (!(value >= low && value <= high))
    fail(ErrorKind::bad_argument, flag, ": ", value, ", expected ", low, " to ", high);
}

void in_range(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) fail(ErrorKind::bad_argument, flag, ": ", value, ", expected ", low, " to ", high);
}

void rate(const char* flag, const std::optional<double>& value) {
  if (value && !(*value >= 0 && *value <= 1000))
    fail(ErrorKind::bad_argument, flag, ": ", *value, ", expected a learning rate of zero or more (at most 1000)");
}

bool is_adamw(const TrainOptions& options) { return options.optimizer == optim::OptimizerKind::adamw; }

// What would be accepted and do nothing.
void check_effects(const TrainOptions& o) {
  const TrainOptions defaults;
  const bool lora = o.strategy == Strategy::lora, head = o.strategy == Strategy::head;
  const auto refuse_idle = [&](const char* flag, bool given, bool works, const char* chosen, const char* where) {
    if (given && !works)
      fail(ErrorKind::bad_argument, flag, ": does nothing with ", chosen, ", only with ", where,
           "; leave it out, or choose that");
  };
  const std::string strategy = concat("--strategy ", name(o.strategy));
  const char* const any_but_head = "a strategy in which more than the head learns (two-stage, partial, full, ...)";
  refuse_idle("--unfreeze", o.unfreeze != defaults.unfreeze, o.strategy == Strategy::partial, strategy.c_str(),
              "--strategy partial");
  refuse_idle("--rank", o.rank != defaults.rank, lora, strategy.c_str(), "--strategy lora");
  refuse_idle("--alpha", o.alpha.has_value(), lora, strategy.c_str(), "--strategy lora");
  refuse_idle("--targets", !o.targets.empty(), lora, strategy.c_str(), "--strategy lora");
  refuse_idle("--backbone-lr", o.backbone_lr.has_value(), !head, strategy.c_str(), any_but_head);
  refuse_idle("--layer-decay", o.layer_decay != defaults.layer_decay, !head, strategy.c_str(), any_but_head);
  refuse_idle("--momentum", o.momentum != defaults.momentum, !is_adamw(o), "--optimizer adamw", "--optimizer sgd");
}

}  // namespace

const char* name(Strategy strategy) {
  switch (strategy) {
    case Strategy::two_stage:
      return "two-stage";
    case Strategy::head:
      return "head";
    case Strategy::partial:
      return "partial";
    case Strategy::full:
      return "full";
    case Strategy::scratch:
      return "scratch";
    case Strategy::lora:
      return "lora";
    case Strategy::bitfit:
      return "bitfit";
  }
  return "two-stage";
}

const char* name(BatchNormChoice choice) {
  switch (choice) {
    case BatchNormChoice::by_strategy:
      return "by strategy";
    case BatchNormChoice::train:
      return "train";
    case BatchNormChoice::frozen:
      return "frozen";
  }
  return "by strategy";
}

const char* name(ResumeChoice choice) {
  switch (choice) {
    case ResumeChoice::automatic:
      return "auto";
    case ResumeChoice::off:
      return "off";
    case ResumeChoice::on:
      return "on";
  }
  return "auto";
}

void validate(const RunOptions& options) {
  in_range("--threads", int64_t{options.threads}, 0, kMaxThreads);
  in_range("--workers", int64_t{options.workers}, -1, kMaxThreads);
  in_range("--batch-size", options.batch_size, 1, kMaxBatch);
  if (options.input_size) in_range("--input-size", *options.input_size, 8, kMaxSide);
  if (options.crop_pct) in_range("--crop-pct", *options.crop_pct, io::kMinCropPct, io::kMaxCropPct);
}

void validate(const TrainOptions& options) {
  validate(options.run);
  if (options.strategy == Strategy::scratch && !options.model.weights.empty())
    fail(ErrorKind::bad_argument,
         "--weights: the strategy scratch begins with random weights; leave --weights out, or take "
         "another strategy");
  rate("--lr", options.lr);
  rate("--head-lr", options.head_lr);
  rate("--backbone-lr", options.backbone_lr);
  in_range("--unfreeze", options.unfreeze, 0, 1000);
  in_range("--rank", options.rank, 1, kMaxRank);
  if (options.alpha) in_range("--alpha", *options.alpha, 1e-6, 1e6);
  if (options.epochs) in_range("--epochs", *options.epochs, 1, kMaxEpochs);
  if (options.strategy == Strategy::two_stage && options.epochs == 1)
    fail(ErrorKind::bad_argument,
         "--epochs: 1, but --strategy two-stage needs 2 or more: the head learns in the first half of them, everything "
         "in the second; give 2, or take --strategy head or full");
  if (options.max_steps) in_range("--max-steps", *options.max_steps, 1, kMaxSteps);
  in_range("--accumulate", options.accumulate, 1, kMaxAccumulate);
  in_range("--momentum", options.momentum, 0.0, 0.9999);
  in_range("--weight-decay", options.weight_decay, 0.0, 100.0);
  in_range("--layer-decay", options.layer_decay, 0.01, 1.0);
  in_range("--warmup", options.warmup.amount, 0.0, options.warmup.unit == optim::Warmup::Unit::percent ? 100.0 : 1e9);
  in_range("--clip", options.clip, 0.0, 1e9);
  in_range("--label-smoothing", options.label_smoothing, 0.0, 0.99);
  in_range("--dropout", options.dropout, 0.0, 0.99);
  in_range("--drop-path", options.drop_path, 0.0, 0.99);
  in_range("--early-stop", options.early_stop, 0, kMaxEpochs);
  in_range("--val-split", options.val_split, 1.0, 90.0);
  in_range("--max-bad", options.max_bad, 0.0, 100.0);
  check_effects(options);
}

std::span<const Flag> train_flags() {
  static const std::vector<Flag> flags = flags_of(train_table());
  return flags;
}

std::span<const Flag> run_flags() {
  static const std::vector<Flag> flags = flags_of(run_table());
  return flags;
}

void set_flag(RunOptions& options, std::string_view flag, std::string_view text) {
  if (const auto* entry = find(run_table(), flag)) return entry->set(options, flag, text);
  std::vector<std::string> names;
  for (const Flag& known : run_flags()) names.emplace_back(known.name);
  unknown_flag(flag, names);
}

void set_flag(TrainOptions& options, std::string_view flag, std::string_view text) {
  if (const auto* entry = find(train_table(), flag)) return entry->set(options, flag, text);
  if (find(run_table(), flag)) return set_flag(options.run, flag, text);
  std::vector<std::string> names;
  for (const Flag& known : train_flags()) names.emplace_back(known.name);
  for (const Flag& known : run_flags()) names.emplace_back(known.name);
  unknown_flag(flag, names);
}

std::string nearest(std::string_view text, std::span<const std::string> names) {
  std::string best;
  size_t fewest = std::max<size_t>(2, text.size() / 3) + 1;
  for (const std::string& candidate : names) {
    // Levenshtein, one row at a time.
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= text.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i);
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t replace = diagonal + (text[i - 1] != candidate[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
      }
    }
    if (row.back() < fewest) {
      fewest = row.back();
      best = candidate;
    }
  }
  return best;
}

int64_t default_epochs(Strategy strategy) {
  switch (strategy) {
    case Strategy::two_stage:
      return 8;
    case Strategy::head:
      return 10;
    case Strategy::partial:
      return 8;
    case Strategy::full:
      return 5;
    case Strategy::scratch:
      return 20;
    case Strategy::lora:
      return 8;
    case Strategy::bitfit:
      return 10;
  }
  return 10;
}

LearningRates learning_rates(const TrainOptions& options) {
  LearningRates rates{};
  switch (options.strategy) {
    case Strategy::two_stage:
      rates = is_adamw(options) ? LearningRates{1e-3, 2e-4} : LearningRates{1e-2, 2e-3};
      break;
    case Strategy::head:
      rates = is_adamw(options) ? LearningRates{3e-3, 0} : LearningRates{0.1, 0};
      break;
    case Strategy::partial:
      rates = is_adamw(options) ? LearningRates{1e-3, 5e-4} : LearningRates{2e-2, 1e-2};
      break;
    case Strategy::full:
      rates = is_adamw(options) ? LearningRates{3e-4, 3e-4} : LearningRates{1e-2, 1e-2};
      break;
    case Strategy::scratch:
      rates = is_adamw(options) ? LearningRates{1e-3, 1e-3} : LearningRates{5e-2, 5e-2};
      break;
    case Strategy::lora:
      rates = is_adamw(options) ? LearningRates{3e-3, 2e-3} : LearningRates{5e-2, 5e-2};
      break;
    case Strategy::bitfit:
      rates = is_adamw(options) ? LearningRates{3e-3, 2e-3} : LearningRates{5e-2, 2e-2};
      break;
  }
  if (options.lr) rates = {*options.lr, *options.lr};
  if (options.head_lr) rates.head = *options.head_lr;
  if (options.backbone_lr) rates.backbone = *options.backbone_lr;
  return rates;
}

Precision resolve_precision(const RunOptions& options) {
  if (options.precision) return *options.precision;
  const bool native = options.device.kind == DeviceKind::cpu ? cpu_level() == CpuLevel::avx512bf16 : true;
  return native ? Precision::bf16 : Precision::fp32;
}

}  // namespace vtl::finetune
