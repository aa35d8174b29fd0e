// What the program returns for which kind of error.
#pragma once

#include "vtl/core/error.h"

namespace vtl::cli {

inline constexpr int kUsage = 2, kBadData = 3, kStopped = 75, kInterrupted = 130;

constexpr int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::bad_argument: return kUsage;
    case ErrorKind::unsupported: return kUsage;
    case ErrorKind::bad_data: return kBadData;
    case ErrorKind::bad_model: return 4;
    case ErrorKind::diverged: return 5;
    case ErrorKind::out_of_memory: return 6;
    case ErrorKind::io: return 7;
    case ErrorKind::device: return 8;
    case ErrorKind::peer_lost: return 9;
    case ErrorKind::internal: return 1;
  }
  return 1;
}

}  // namespace vtl::cli
