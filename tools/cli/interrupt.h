// Signals: the first SIGINT, SIGTERM or SIGUSR1 asks for an orderly end, the second one ends at once with code 130.
#pragma once

namespace vtl::cli {

void install_interrupt_handler();
bool interrupted();

}  // namespace vtl::cli
