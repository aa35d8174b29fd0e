// The program's commands. Each adds itself to the command line; its action runs after parsing and returns the exit code.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace vtl::cli {

// What all commands share.
struct Invocation {
  std::vector<std::string> command;  // the whole of the command line
  bool json = false;
  std::function<int()> action;  // of the command that was given
};

void add_train(CLI::App& app, Invocation& invocation);
void add_eval(CLI::App& app, Invocation& invocation);
void add_predict(CLI::App& app, Invocation& invocation);
void add_features(CLI::App& app, Invocation& invocation);
void add_models(CLI::App& app, Invocation& invocation);
void add_inspect(CLI::App& app, Invocation& invocation);
void add_doctor(CLI::App& app, Invocation& invocation);
void add_demo(CLI::App& app, Invocation& invocation);

}  // namespace vtl::cli
