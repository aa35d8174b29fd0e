#include "vtl/core/error.h"

namespace vtl {

const char* name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::bad_argument: return "bad_argument";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::bad_data: return "bad_data";
    case ErrorKind::bad_model: return "bad_model";
    case ErrorKind::diverged: return "diverged";
    case ErrorKind::io: return "io";
    case ErrorKind::out_of_memory: return "out_of_memory";
    case ErrorKind::device: return "device";
    case ErrorKind::peer_lost: return "peer_lost";
    case ErrorKind::internal: return "internal";
  }
  return "internal";
}

}  // namespace vtl
