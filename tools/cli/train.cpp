#include <CLI/CLI.hpp>
#include <iostream>
#include <type_traits>

#include "vtl/tools/cli/commands.h"
#include "vtl/tools/cli/exit_code.h"
#include "vtl/tools/cli/flags.h"
#include "vtl/tools/cli/interrupt.h"
#include "vtl/tools/cli/terminal.h"
#include "vtl/tools/finetune/json.h"
#include "vtl/tools/finetune/run_folder.h"
#include "vtl/tools/finetune/trainer.h"

namespace vtl::cli {
namespace {

using namespace finetune;

constexpr const char* kDescription =
    "Fine-tunes a pretrained model on a folder of images or a CSV.\n\n"
    "Examples:\n"
    "  vtl-finetune train photos/ --model tf_efficientnet_lite0 --weights model.safetensors\n"
    "  vtl-finetune train photos/ --model vit_small_patch16_224 --weights vit.safetensors --strategy lora --rank 8\n"
    "  vtl-finetune train labels.csv --model resnet18 --weights resnet18.safetensors --strategy head --augment none\n\n"
    "DATA holds train/CLASS/* and val/CLASS/*, or CLASS/* (then a part is set aside), or is a CSV (path,label[,split][,group]).";

void print_plan(Terminal& terminal, const Plan& plan) {
  terminal.line("model      " + plan.model + (plan.tag.empty() ? "" : "." + plan.tag) + ", " + plan.precision + " on " + plan.device + ", input " +
                std::to_string(plan.height) + " x " + std::to_string(plan.width));
  terminal.line("data       " + human_count(plan.train_images) + " images to train on, " + human_count(plan.val_images) + " to validate, " +
                std::to_string(plan.classes.size()) + " classes, augmentation " + plan.augment);
  terminal.line("strategy   " + plan.strategy + ": " + human_count(plan.trainable_parameters) + " of " + human_count(plan.total_parameters) +
                " parameters learn");
  for (const PlanPhase& phase : plan.phases) {
    terminal.line("phase      " + phase.name + ": " + std::to_string(phase.epochs) + " epochs, " + human_count(phase.steps) +
                  " steps, BatchNorm " + phase.batchnorm + (phase.cached ? ", frozen features computed once" : ""));
    for (const PlanGroup& group : phase.groups) {
      const std::string rate = CLI::detail::to_string(group.learning_rate);
      const std::string range = group.lowest_rate < group.learning_rate ? " down to " + CLI::detail::to_string(group.lowest_rate) : "";
      terminal.line("  group    " + left(group.name, 10) + " rate " + rate + range + ", decay " + CLI::detail::to_string(group.weight_decay) + ", " +
                    human_count(group.parameters) + " parameters in " + std::to_string(group.tensors) + " tensors");
    }
  }
  terminal.line("optimizer  " + plan.optimizer + ", " + plan.schedule + " schedule, " + std::to_string(plan.warmup_steps) + " warmup steps, batch " +
                std::to_string(plan.batch_size) + (plan.accumulate > 1 ? " x " + std::to_string(plan.accumulate) : "") + ", " +
                human_count(plan.steps) + " steps in all");
  terminal.line("memory     about " + human_bytes(static_cast<double>(plan.estimated_memory_bytes)) + "; threads " + std::to_string(plan.threads) +
                ", loader " + std::to_string(plan.workers) + "; best/ by validation " + plan.monitor);
  for (const std::string& note : plan.notes) terminal.line("note       " + note);
}

// Shows events as they come.
class Reporter {
 public:
  explicit Reporter(Terminal& terminal) : terminal_(terminal) {}

  void operator()(const Event& event) {
    std::visit([this](const auto& e) { show(e); }, event);
  }

 private:
  void show(const Plan& plan) { print_plan(terminal_, plan); }
  void show(const BadFile& file) { terminal_.warn("left out " + file.path + ": " + file.reason); }
  void show(const Note& note) { terminal_.line("note       " + note.text); }
  void show(const PhaseEvent& phase) {
    terminal_.line("epoch " + std::to_string(phase.epoch) + " begins phase " + phase.name + ": " + human_count(phase.trainable_parameters) +
                   " parameters learn");
  }
  void show(const StepEvent& step) {
    if (step.skipped) terminal_.warn("step " + std::to_string(step.step) + " skipped: loss or gradient is not finite");
    terminal_.progress("epoch " + std::to_string(step.epoch) + "/" + std::to_string(step.epochs) + "  step " + std::to_string(step.step) + "/" +
                       std::to_string(step.steps) + "  loss " + fixed(step.loss, 4) + "  " + fixed(step.images_per_second, 1) + " images/s");
  }
  void show(const EpochEvent& epoch) {
    terminal_.line("epoch " + right(std::to_string(epoch.epoch), 3) + "/" + std::to_string(epoch.epochs) + "  train loss " +
                   fixed(epoch.train_loss, 4) + " accuracy " + per_cent(epoch.train_accuracy) + "  validation loss " +
                   fixed(epoch.validation.loss, 4) + " accuracy " + per_cent(epoch.validation.accuracy) + "  " + human_seconds(epoch.seconds) +
                   (epoch.best ? "  best so far" : ""));
  }
  void show(const StopEvent& stop) {
    if (stop.reason != StopReason::finished)
      terminal_.line(std::string("stopped (") + name(stop.reason) + ") after step " + std::to_string(stop.step));
  }

  Terminal& terminal_;
};

void print_result(const TrainOptions& options, const TrainResult& result) {
  std::cout << "best epoch " << result.best_epoch << ": validation accuracy " << per_cent(result.best.accuracy) << ", macro-F1 "
            << fixed(result.best.macro_f1, 4) << ", loss " << fixed(result.best.loss, 4) << '\n';
  if (result.test) std::cout << "test accuracy " << per_cent(result.test->accuracy) << ", macro-F1 " << fixed(result.test->macro_f1, 4) << '\n';
  std::cout << result.steps << " steps in " << human_seconds(result.seconds) << ", peak memory "
            << human_bytes(static_cast<double>(result.peak_memory_bytes)) << '\n'
            << "model in " << (options.out / "best").string() << '\n';
}

}  // namespace

void add_train(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("train", kDescription);
  auto options = std::make_shared<TrainOptions>();
  command->add_option("DATA", options->data, "a folder or a CSV")->required();
  add_flags(*command, train_flags(), *options);
  add_flags(*command, run_flags(), *options);
  command->add_flag("--json", invocation.json, "print summary.json on stdout, after a dry run the plan");
  command->callback([options, &invocation] {
    invocation.action = [options, &invocation] {
      Terminal terminal;
      options->command = invocation.command;
      if (options->out.empty()) options->out = default_run_folder(*options);
      Reporter reporter(terminal);
      Callbacks callbacks;
      callbacks.on_event = [&](const Event& event) { reporter(event); };
      callbacks.stop_requested = stop_on_signals();
      terminal.line("reading    " + options->data.string());
      const TrainResult result = train(*options, callbacks);
      terminal.clear();
      if (invocation.json)
        std::cout << (options->dry_run ? to_json(Event(result.plan)) : to_json(result)) << '\n';
      else if (!options->dry_run)
        print_result(*options, result);
      return result.stop == StopReason::requested ? kStopped : 0;
    };
  });
}

}  // namespace vtl::cli
