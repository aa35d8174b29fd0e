// The contract's flags on a command line: CLI11 sees texts, the library reads them.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>

#include "vtl/tools/finetune/options.h"

namespace vtl::cli {

// Adds `flags` so that each one given calls set_flag(options, name, text).
template <class Options>
void add_flags(CLI::App& command, std::span<const finetune::Flag> flags, Options& options) {
  for (const finetune::Flag& flag : flags) {
    const std::string name = flag.name;
    std::string help = flag.help;
    if (flag.default_text && *flag.default_text) help += " (default: " + std::string(flag.default_text) + ")";
    if (flag.value && *flag.value)
      command.add_option_function<std::string>(name, [&options, name](const std::string& text) { finetune::set_flag(options, name, text); }, help)
          ->type_name(flag.value);
    else
      command.add_flag_callback(name, [&options, name] { finetune::set_flag(options, name, "on"); }, help);
  }
}

}  // namespace vtl::cli
