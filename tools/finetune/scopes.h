// The ambient state of a run: how many compute threads, which stream.
#pragma once

#include <optional>

#include "vtl/core/context.h"
#include "vtl/core/parallel.h"
#include "vtl/core/stream.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// Puts both back at its end.
class RunScopes {
 public:
  explicit RunScopes(const RunOptions& options)
      : threads_before_(compute_threads()), stream_(options.device), scope_(stream_) {
    if (options.threads > 0) set_compute_threads(options.threads);
  }
  ~RunScopes() { set_compute_threads(threads_before_); }
  RunScopes(const RunScopes&) = delete;
  RunScopes& operator=(const RunScopes&) = delete;

 private:
  int threads_before_;
  Stream stream_;
  StreamScope scope_;
};

}  // namespace vtl::finetune
