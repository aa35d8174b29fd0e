#include "vtl/tools/cli/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "vtl/tools/cli/exit_code.h"

namespace vtl::cli {
namespace {

volatile std::sig_atomic_t seen = 0;

// Only what is allowed in a signal handler: a flag, write, _exit.
void on_signal(int) {
  if (seen) _exit(kInterrupted);
  seen = 1;
  static constexpr char text[] = "\nstopping after this step; once more ends at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, std::strlen(text));
}

}  // namespace

std::function<bool()> stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  return [] { return seen != 0; };
}

}  // namespace vtl::cli
