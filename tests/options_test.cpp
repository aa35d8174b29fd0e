#include "vtl/tools/finetune/options.h"

#include <doctest/doctest.h>

#include <limits>

#include "vtl/core/error.h"

using namespace vtl;
using namespace vtl::finetune;

namespace {

// The message of the bad_argument that setting and checking this flag gives; empty when it is accepted.
std::string complaint(const std::string& flag, const std::string& text) {
  TrainOptions options;
  try {
    set_flag(options, flag, text);
    validate(options);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_argument);
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("defaults are those of the contract and valid") {
  const TrainOptions o;
  validate(o);
  CHECK(o.strategy == Strategy::two_stage);
  CHECK(o.unfreeze == 2);
  CHECK(o.rank == 8);
  CHECK(o.run.batch_size == 32);
  CHECK(o.accumulate == 1);
  CHECK(o.optimizer == optim::OptimizerKind::adamw);
  CHECK(o.momentum == 0.9);
  CHECK(o.weight_decay == 0.05);
  CHECK(o.layer_decay == 1.0);
  CHECK(o.schedule == optim::ScheduleKind::cosine);
  CHECK(optim::warmup_steps(o.warmup, 100) == 5);
  CHECK(o.clip == 1.0);
  CHECK(o.augment == io::AugmentPreset::standard);
  CHECK(o.shuffle);
  CHECK(o.val_split == 20);
  CHECK(o.max_bad == 1);
}

TEST_CASE("every flag sets its field") {
  TrainOptions o;
  for (const auto& [flag, text] : std::vector<std::pair<const char*, const char*>>{{"--strategy", "lora"},
                                                                                   {"--rank", "4"},
                                                                                   {"--alpha", "16"},
                                                                                   {"--targets", "qkv,fc1"},
                                                                                   {"--epochs", "3"},
                                                                                   {"--max-steps", "7"},
                                                                                   {"--batch-size", "8"},
                                                                                   {"--accumulate", "2"},
                                                                                   {"--optimizer", "sgd"},
                                                                                   {"--momentum", "0.8"},
                                                                                   {"--weight-decay", "1e-4"},
                                                                                   {"--lr", "0.01"},
                                                                                   {"--head-lr", "0.1"},
                                                                                   {"--layer-decay", "0.75"},
                                                                                   {"--schedule", "linear"},
                                                                                   {"--warmup", "12"},
                                                                                   {"--clip", "0"},
                                                                                   {"--batchnorm", "frozen"},
                                                                                   {"--label-smoothing", "0.1"},
                                                                                   {"--augment", "none"},
                                                                                   {"--early-stop", "5"},
                                                                                   {"--shuffle", "off"},
                                                                                   {"--seed", "42"},
                                                                                   {"--val-split", "10%"},
                                                                                   {"--max-bad", "2"},
                                                                                   {"--precision", "fp32"},
                                                                                   {"--threads", "2"},
                                                                                   {"--input-size", "192"},
                                                                                   {"--crop-pct", "0.9"},
                                                                                   {"--workers", "1"},
                                                                                   {"--head", "new"},
                                                                                   {"--dry-run", "on"},
                                                                                   {"--loss", "ce"},
                                                                                   {"--mixup", "0"},
                                                                                   {"--sampler", "shuffle"}})
    set_flag(o, flag, text);
  validate(o);
  CHECK(o.strategy == Strategy::lora);
  CHECK(o.rank == 4);
  CHECK(o.alpha == 16.0);
  CHECK(o.targets == std::vector<std::string>{"qkv", "fc1"});
  CHECK(o.epochs == 3);
  CHECK(o.max_steps == 7);
  CHECK(o.run.batch_size == 8);
  CHECK(o.accumulate == 2);
  CHECK(o.optimizer == optim::OptimizerKind::sgd);
  CHECK(o.momentum == 0.8);
  CHECK(o.weight_decay == 1e-4);
  CHECK(o.layer_decay == 0.75);
  CHECK(o.schedule == optim::ScheduleKind::linear);
  CHECK(optim::warmup_steps(o.warmup, 1000) == 12);
  CHECK(o.clip == 0);
  CHECK(o.batchnorm == BatchNormChoice::frozen);
  CHECK(o.label_smoothing == 0.1);
  CHECK(o.augment == io::AugmentPreset::none);
  CHECK(o.early_stop == 5);
  CHECK_FALSE(o.shuffle);
  CHECK(o.seed == 42);
  CHECK(o.val_split == 10);
  CHECK(o.max_bad == 2);
  CHECK(o.run.precision == Precision::fp32);
  CHECK(o.run.threads == 2);
  CHECK(o.run.input_size == 192);
  CHECK(o.run.crop_pct == 0.9);
  CHECK(o.run.workers == 1);
  CHECK(o.model.head == models::HeadPolicy::fresh);
  CHECK(o.dry_run);
  CHECK(learning_rates(o).head == 0.1);
  CHECK(learning_rates(o).backbone == 0.01);
}

TEST_CASE("what is out of range is refused under the name of its flag") {
  for (const auto& [flag, text] : std::vector<std::pair<const char*, const char*>>{
           {"--lr", "-0.1"},           {"--lr", "nan"},           {"--lr", "inf"},
           {"--head-lr", "-1"},        {"--backbone-lr", "nan"},  {"--rank", "0"},
           {"--batch-size", "0"},      {"--batch-size", "-3"},    {"--batch-size", "100000000000000000000"},
           {"--batch-size", "3.5"},    {"--epochs", "0"},         {"--epochs", "99999999999999999999"},
           {"--max-steps", "0"},       {"--accumulate", "0"},     {"--momentum", "1"},
           {"--weight-decay", "-1"},   {"--weight-decay", "nan"}, {"--layer-decay", "0"},
           {"--layer-decay", "1.5"},   {"--warmup", "-1"},        {"--warmup", "101%"},
           {"--warmup", "nan%"},       {"--clip", "-1"},          {"--clip", "nan"},
           {"--label-smoothing", "1"}, {"--dropout", "1"},        {"--drop-path", "-0.1"},
           {"--val-split", "0"},       {"--val-split", "95"},     {"--max-bad", "101"},
           {"--max-bad", "nan"},       {"--threads", "0"},        {"--input-size", "0"},
           {"--crop-pct", "0"},        {"--crop-pct", "nan"},     {"--crop-pct", "1.1"},
           {"--seed", "-1"},
           {"--alpha", "0"},           {"--unfreeze", "-1"},      {"--lr", ""},
           {"--lr", "fast"},           {"--lr", "1e-3x"},         {"--early-stop", "-1"}}) {
    CAPTURE(flag);
    CAPTURE(text);
    CHECK(complaint(flag, text).starts_with(std::string(flag) + ": "));
  }
  TrainOptions nan;
  nan.lr = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(validate(nan), Error);
  TrainOptions batch;
  batch.run.batch_size = 0;
  CHECK_THROWS_AS(validate(batch), Error);
}

TEST_CASE("what comes in a later version is refused by name") {
  for (const auto& [flag, text] : std::vector<std::pair<const char*, const char*>>{{"--strategy", "adapter"},
                                                                                   {"--strategy", "progressive"},
                                                                                   {"--schedule", "onecycle"},
                                                                                   {"--loss", "focal"},
                                                                                   {"--loss", "bce"},
                                                                                   {"--class-weights", "balanced"},
                                                                                   {"--sampler", "balanced"},
                                                                                   {"--mixup", "0.2"},
                                                                                   {"--cutmix", "1"},
                                                                                   {"--ema", "0.999"}}) {
    CAPTURE(flag);
    const std::string message = complaint(flag, text);
    CHECK(contains(message, flag));
    CHECK(contains(message, text));
    CHECK(contains(message, "not in this version"));
    CHECK((contains(message, "expected ") || contains(message, "only 0 is")));
  }
}

TEST_CASE("a misspelt flag or value is answered with the nearest one") {
  CHECK(contains(complaint("--batchsize", "8"), "did you mean --batch-size?"));
  CHECK(contains(complaint("--learning-rate", "8"), "--learning-rate: no such flag"));
  CHECK(contains(complaint("--strategy", "two_stage"), "did you mean two-stage?"));
  CHECK(contains(complaint("--optimizer", "adam"), "did you mean adamw?"));
  CHECK(contains(complaint("--augment", "xyzzyx"), "none, light, standard, strong, medical"));
}

TEST_CASE("scratch takes no weights and two stages take two epochs") {
  TrainOptions scratch;
  scratch.strategy = Strategy::scratch;
  scratch.model.weights = "weights.safetensors";
  CHECK_THROWS_AS(validate(scratch), Error);
  TrainOptions staged;
  staged.epochs = 1;
  for (const char* part : {"--epochs: 1", "--strategy two-stage needs 2", "--strategy head"})
    CHECK(contains(complaint("--epochs", "1"), part));
  CHECK_THROWS_AS(validate(staged), Error);
  staged.strategy = Strategy::full;
  validate(staged);
}

TEST_CASE("a flag that would do nothing is refused with where it works") {
  using Flags = std::vector<std::pair<const char*, const char*>>;
  const auto complaint_of = [](const Flags& flags) -> std::string {
    TrainOptions options;
    for (const auto& [flag, text] : flags) set_flag(options, flag, text);
    try {
      validate(options);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  const std::vector<std::pair<Flags, const char*>> idle = {
      {{{"--strategy", "head"}, {"--backbone-lr", "5"}}, "two-stage"},
      {{{"--strategy", "head"}, {"--layer-decay", "0.5"}}, "two-stage"},
      {{{"--strategy", "head"}, {"--targets", "conv_pw"}}, "--strategy lora"},
      {{{"--strategy", "full"}, {"--rank", "4"}}, "--strategy lora"},
      {{{"--strategy", "full"}, {"--alpha", "4"}}, "--strategy lora"},
      {{{"--strategy", "full"}, {"--unfreeze", "5"}}, "--strategy partial"},
      {{{"--optimizer", "adamw"}, {"--momentum", "0.5"}}, "--optimizer sgd"}};
  for (const auto& [flags, where] : idle) {
    CAPTURE(flags[1].first);
    const std::string message = complaint_of(flags);
    CHECK(message.starts_with(std::string(flags[1].first) + ": "));
    CHECK(contains(message, flags[0].second));
    CHECK(contains(message, where));
    CHECK(complaint_of({flags[0]}).empty());
  }
  CHECK(complaint_of({{"--strategy", "lora"}, {"--targets", "qkv"}, {"--rank", "4"}, {"--alpha", "8"}}).empty());
  CHECK(complaint_of({{"--strategy", "partial"}, {"--unfreeze", "5"}}).empty());
  CHECK(complaint_of({{"--optimizer", "sgd"}, {"--momentum", "0.5"}}).empty());
}

TEST_CASE("--lr sets every group that its own flag does not set") {
  TrainOptions o;
  o.strategy = Strategy::full;
  const LearningRates by_strategy = learning_rates(o);
  CHECK(by_strategy.head == 3e-4);
  CHECK(by_strategy.backbone == 3e-4);
  o.lr = 0.5;
  o.head_lr = 0.25;
  CHECK(learning_rates(o).head == 0.25);
  CHECK(learning_rates(o).backbone == 0.5);
}

TEST_CASE("every strategy has epochs and rates of its own for both optimizers") {
  for (const Strategy strategy : {Strategy::two_stage, Strategy::head, Strategy::partial, Strategy::full,
                                  Strategy::scratch, Strategy::lora, Strategy::bitfit})
    for (const optim::OptimizerKind optimizer : {optim::OptimizerKind::adamw, optim::OptimizerKind::sgd}) {
      TrainOptions o;
      o.strategy = strategy;
      o.optimizer = optimizer;
      CHECK(default_epochs(strategy) >= 1);
      CHECK(learning_rates(o).head > 0);
      CHECK((learning_rates(o).backbone > 0) == (strategy != Strategy::head));
      validate(o);
    }
}
