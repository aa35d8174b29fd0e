#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "vtl/core/error.h"
#include "vtl/tools/cli/commands.h"
#include "vtl/tools/cli/exit_code.h"
#include "vtl/tools/cli/flags.h"
#include "vtl/tools/cli/interrupt.h"
#include "vtl/tools/cli/terminal.h"
#include "vtl/tools/finetune/demo.h"

namespace vtl::cli {
namespace {

using namespace finetune;

constexpr const char* kDescription =
    "Shows transfer learning from end to end: draws pictures, pretrains a small ResNet and a small ViT on one task,\n"
    "and fine-tunes them for another one with few pictures by each strategy. A few minutes on two cores.\n\n"
    "Examples:\n"
    "  vtl-finetune demo\n"
    "  vtl-finetune demo --model resnet50 --weights resnet50.safetensors --out my-demo\n"
    "  vtl-finetune demo --quick --json";

// vtl-demo, with a number when that folder is there already.
std::filesystem::path default_folder() {
  const std::string base = "vtl-demo";
  std::filesystem::path folder = base;
  for (int number = 2; std::filesystem::exists(folder); ++number) folder = base + "-" + std::to_string(number);
  return folder;
}

std::string table_line(const std::string& model, const std::string& strategy, const std::string& parameters,
                       const std::string& seconds, const std::string& accuracy) {
  return left(model, 24) + left(strategy, 10) + right(parameters, 22) + right(seconds, 10) + right(accuracy, 10);
}

std::string table_line(const DemoRow& row) {
  return table_line(row.model, name(row.strategy), human_count(row.trainable_parameters), fixed(row.seconds, 1),
                    per_cent(row.accuracy));
}

void print_table(const DemoResult& result) {
  std::cout << table_line("model", "strategy", "trainable parameters", "seconds", "accuracy") << '\n';
  for (const DemoRow& row : result.rows) std::cout << table_line(row) << '\n';
}

void print_files(const DemoOptions& options, const DemoResult& result) {
  std::cout << '\n';
  if (!result.source.empty()) std::cout << left("pictures, source task", 24) << result.source.string() << '\n';
  std::cout << left("pictures, target task", 24) << result.target.string() << '\n';
  for (const DemoBackbone& backbone : result.backbones) {
    std::cout << left("weights, " + backbone.model.substr(0, backbone.model.find('_')), 24)
              << (backbone.accuracy ? backbone.weights / "model.safetensors" : backbone.weights).string();
    if (backbone.accuracy)
      std::cout << " (accuracy on the source task " << per_cent(*backbone.accuracy) << ", "
                << human_seconds(backbone.seconds) << ")";
    std::cout << '\n';
  }
  std::cout << left("runs", 24) << (options.out / "MODEL" / "STRATEGY").string() << '\n';
  if (!result.rows.empty())
    std::cout << left("try a model", 24) << "vtl-finetune eval " << result.rows.back().folder.string() << ' '
              << result.target.string() << '\n';
  std::cout << "done in " << human_seconds(result.seconds) << '\n';
}

// Shows the run that goes on; its numbers are for the table.
void show(Terminal& terminal, const Event& event) {
  if (const auto* bad = std::get_if<BadFile>(&event)) terminal.warn("left out " + bad->path + ": " + bad->reason);
  if (const auto* step = std::get_if<StepEvent>(&event))
    terminal.progress("  epoch " + std::to_string(step->epoch) + "/" + std::to_string(step->epochs) + "  step " +
                      std::to_string(step->step) + "/" + std::to_string(step->steps) + "  loss " +
                      fixed(step->loss, 4) + "  " + fixed(step->images_per_second, 1) + " images/s");
}

struct Request {
  DemoOptions demo;
  bool quick = false;
};

int run(Request& request, bool json) {
  DemoOptions& options = request.demo;
  if (options.out.empty()) options.out = default_folder();
  if (request.quick) options.work = DemoWork::quick();
  Terminal terminal;
  DemoCallbacks callbacks;
  callbacks.on_stage = [&](const std::string& what) { terminal.line(what); };
  callbacks.on_row = [&](const DemoRow& row) { terminal.line("  " + table_line(row)); };
  callbacks.training.on_event = [&](const Event& event) { show(terminal, event); };
  callbacks.training.stop_requested = stop_on_signals();
  const DemoResult result = run_demo(options, callbacks);
  terminal.clear();
  if (json) {
    std::cout << to_json(result) << '\n';
  } else {
    print_table(result);
    print_files(options, result);
  }
  return result.stopped ? kInterrupted : 0;  // a demonstration is not taken up again
}

}  // namespace

void add_demo(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("demo", kDescription);
  auto request = std::make_shared<Request>();
  command->add_option("--out", request->demo.out, "the folder to make (default: vtl-demo)")->type_name("DIR");
  command
      ->add_option("--model", request->demo.backbone.model,
                   "with --weights: your own backbone in place of the pretrained ones")
      ->type_name("NAME");
  command->add_option("--weights", request->demo.backbone.weights, "its safetensors file or model directory")
      ->type_name("FILE");
  command->add_option("--seed", request->demo.seed, "of the pictures and the runs (default: 0)")->type_name("N");
  command->add_flag("--quick", request->quick, "only shows that everything runs: hardly anything is learned");
  add_flags(*command, run_flags(), request->demo.run);
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([request, &invocation] {
    invocation.action = [request, &invocation] { return run(*request, invocation.json); };
  });
}

}  // namespace vtl::cli
