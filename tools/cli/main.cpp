// vtl-finetune: the only place that prints, handles signals and exits.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/tools/cli/commands.h"
#include "vtl/tools/cli/exit_code.h"
#include "vtl/tools/finetune/json.h"
#include "vtl/tools/finetune/options.h"

namespace {

using namespace vtl;

constexpr const char* kDescription =
    "Adapts a pretrained vision model to your own images.\n\n"
    "Examples:\n"
    "  vtl-finetune train photos/ --model resnet50 --weights resnet50.safetensors\n"
    "  vtl-finetune predict runs/photos-two-stage picture.jpg\n"
    "  vtl-finetune eval runs/photos-two-stage photos/\n"
    "  vtl-finetune demo\n";

// The names that could have been meant: of the command if one was given, else of the program.
std::vector<std::string> names_of(const CLI::App& app, bool flags) {
  std::vector<std::string> names;
  if (flags) {
    for (const auto* option : app.get_options())
      for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  } else {
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(command->get_name());
  }
  return names;
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const CLI::App& scope = chosen.empty() ? app : *chosen.front();
  const auto extras = app.remaining(true);
  if (!extras.empty()) {
    const std::string word = extras.front().substr(0, extras.front().find('='));
    const bool flag = word.starts_with("-");
    const std::string near = finetune::nearest(word, names_of(scope, flag));
    return word + ": no such " + (flag ? "flag" : chosen.empty() ? "command" : "argument") + (near.empty() ? "" : "; did you mean " + near + "?");
  }
  return error.what();
}

void report(const Error& error, bool json) {
  std::cerr << "vtl-finetune: " << error.what() << '\n';
  if (json) std::cout << finetune::to_json(error) << '\n';
}

bool asks_for_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--json") return true;
  return false;
}

int run(int argc, char** argv) {
  CLI::App app(kDescription, "vtl-finetune");
  app.set_version_flag("--version", std::string("vtl-finetune ") + VTL_VERSION);
  app.require_subcommand(0, 1);
  cli::Invocation invocation;
  invocation.command.assign(argv, argv + argc);
  cli::add_train(app, invocation);
  cli::add_eval(app, invocation);
  cli::add_predict(app, invocation);
  cli::add_features(app, invocation);
  cli::add_models(app, invocation);
  cli::add_inspect(app, invocation);
  cli::add_doctor(app, invocation);
  cli::add_demo(app, invocation);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    std::cout << (chosen.empty() ? app.help() : chosen.front()->help());
    return 0;
  } catch (const CLI::CallForVersion& version) {
    std::cout << version.what() << '\n';
    return 0;
  } catch (const CLI::ParseError& error) {
    fail(ErrorKind::bad_argument, usage_message(app, error), " (vtl-finetune --help lists what there is)");
  }
  if (!invocation.action) {
    std::cerr << app.help();
    return cli::kUsage;
  }
  return invocation.action();
}

// A result that nobody gets is an error.
void check_output() {
  if (!std::cout.flush()) fail(ErrorKind::io, "standard output: cannot be written; is it closed, or its disk full?");
}

// Where a standard stream is closed, a file that is opened would take its place and get what is printed.
void occupy_standard_streams() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_streams();
  const bool json = asks_for_json(argc, argv);
  try {
    const int code = run(argc, argv);
    check_output();
    return code;
  } catch (const Error& error) {
    report(error, json);
    return cli::exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    const Error error(ErrorKind::out_of_memory, "out of memory; use a smaller --batch-size or --input-size");
    report(error, json);
    return cli::exit_code(error.kind());
  } catch (const std::exception& unexpected) {
    const Error error(ErrorKind::internal, std::string("unexpected: ") + unexpected.what());
    report(error, json);
    return cli::exit_code(error.kind());
  }
}
