// Signals, for commands that can end in order; for all others they do what they always do.
#pragma once

#include <functional>

namespace vtl::cli {

// From now on the first SIGINT, SIGTERM or SIGUSR1 makes the result true, the second one ends at once with code 130.
std::function<bool()> stop_on_signals();

}  // namespace vtl::cli
