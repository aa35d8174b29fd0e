// The folder that a run leaves behind: run.json, metrics.jsonl, metrics.csv, summary.json, best/, last/, adapter/.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/options.h"
#include "vtl/tools/finetune/trainer.h"

namespace vtl::finetune {

// Holds a run: finished, stopped or broken off.
bool is_run_folder(const std::filesystem::path& path);

class RunFolder {
 public:
  // Makes the folder, parents included. Throws bad_argument when it holds another run, io when it cannot be written.
  explicit RunFolder(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best() const { return path_ / "best"; }
  std::filesystem::path last() const { return path_ / "last"; }
  std::filesystem::path adapter() const { return path_ / "adapter"; }

  // run.json: the effective configuration, versions, the hash of the weights.
  void write_run(const TrainOptions& options, const Plan& plan, const std::string& base_sha256);
  // One line of metrics.jsonl, and for an epoch one of metrics.csv; handed to the system when this returns.
  void record(const Event& event);
  void write_summary(const TrainResult& result);

 private:
  std::filesystem::path path_;
  std::ofstream events_, table_;
};

}  // namespace vtl::finetune
