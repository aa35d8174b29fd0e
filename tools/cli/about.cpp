// models, inspect, doctor: what there is.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "vtl/tools/cli/commands.h"
#include "vtl/tools/cli/terminal.h"
#include "vtl/tools/finetune/doctor.h"
#include "vtl/tools/finetune/inspect.h"
#include "vtl/models/registry.h"

namespace vtl::cli {

void add_models(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("models",
                                         "The models that vtl knows.\n\nExamples:\n  vtl-finetune models\n  vtl-finetune models vit\n"
                                         "  vtl-finetune models --json");
  auto filter = std::make_shared<std::string>();
  command->add_option("TEXT", *filter, "only names that contain it");
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([filter, &invocation] {
    invocation.action = [filter, &invocation] {
      std::vector<models::ModelSummary> shown;
      for (auto& model : models::list_models())
        if (model.name.find(*filter) != std::string::npos) shown.push_back(std::move(model));
      if (invocation.json) {
        std::cout << finetune::models_json(shown) << '\n';
        return 0;
      }
      for (const auto& model : shown) {
        std::string dialects;
        for (const auto& dialect : model.dialects) dialects += (dialects.empty() ? "" : ", ") + dialect;
        std::cout << left(model.name, 44) << right(human_count(model.parameters), 12) << right(std::to_string(model.input_size), 5) << "  " << dialects
                  << '\n';
      }
      return 0;
    };
  });
}

void add_inspect(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("inspect",
                                         "What a weights file, adapter, checkpoint or model directory holds.\n\nExamples:\n"
                                         "  vtl-finetune inspect model.safetensors\n  vtl-finetune inspect runs/photos-lora/adapter --json");
  auto path = std::make_shared<std::filesystem::path>();
  command->add_option("FILE", *path, "a file or a directory")->required();
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([path, &invocation] {
    invocation.action = [path, &invocation] {
      const finetune::Inspection found = finetune::inspect(*path);
      if (invocation.json) {
        std::cout << finetune::to_json(found) << '\n';
        return 0;
      }
      std::cout << found.path << ": " << found.kind << ", " << found.verdict << '\n';
      for (const auto& [key, value] : found.metadata) std::cout << "  " << key << " = " << value << '\n';
      for (const auto& tensor : found.tensors) {
        std::string shape;
        for (const int64_t extent : tensor.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
        std::cout << "  " << left(tensor.name, 48) << ' ' << left(tensor.dtype, 5) << '[' << shape << "]\n";
      }
      return 0;
    };
  });
}

void add_doctor(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("doctor", "What this build and this machine can do.\n\nExamples:\n  vtl-finetune doctor\n  vtl-finetune doctor --json");
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([&invocation] {
    invocation.action = [&invocation] {
      const finetune::Diagnosis found = finetune::diagnose();
      if (invocation.json) {
        std::cout << finetune::to_json(found) << '\n';
        return 0;
      }
      std::cout << "vtl " << found.version << '\n';
      for (const auto& [name, state] : found.backends) std::cout << "backend    " << left(name, 8) << state << '\n';
      std::cout << "cpu        " << found.cpu_name << ", " << found.cores << " cores, kernels for " << found.cpu_level << '\n';
      std::cout << "precision  auto is " << found.automatic_precision << '\n';
      for (const auto& [name, state] : found.libraries) std::cout << "library    " << left(name, 14) << state << '\n';
      return 0;
    };
  });
}

}  // namespace vtl::cli
