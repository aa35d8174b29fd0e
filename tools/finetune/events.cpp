#include "vtl/tools/finetune/events.h"

namespace vtl::finetune {

const char* name(StopReason reason) {
  switch (reason) {
    case StopReason::finished:
      return "finished";
    case StopReason::max_steps:
      return "max_steps";
    case StopReason::early_stop:
      return "early_stop";
    case StopReason::requested:
      return "requested";
  }
  return "finished";
}

}  // namespace vtl::finetune
