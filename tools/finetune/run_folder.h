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

// Holds an unfinished run of the same options (how many threads, how it is resumed and where it lies do not count) with
// a checkpoint to continue from.
bool can_resume(const std::filesystem::path& path, const TrainOptions& options);

// runs/DATA-STRATEGY below the working directory, with a number when there is such a folder already; a run that can be
// continued comes first.
std::filesystem::path default_run_folder(const TrainOptions& options);

class RunFolder {
 public:
  // Makes the folder, parents included. Throws bad_argument when it holds another run, io when it cannot be written.
  explicit RunFolder(std::filesystem::path path);
  // Continues the run in `path`: what was recorded after the first so many bytes is dropped.
  RunFolder(std::filesystem::path path, uint64_t events_bytes, uint64_t table_bytes);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best() const { return path_ / "best"; }
  std::filesystem::path last() const { return path_ / "last"; }
  std::filesystem::path adapter() const { return path_ / "adapter"; }
  std::filesystem::path checkpoint() const { return checkpoint_of(path_); }
  static std::filesystem::path checkpoint_of(const std::filesystem::path& path) {
    return path / "checkpoints" / "last.safetensors";
  }

  // run.json: the effective configuration, versions, the hash of the weights.
  void write_run(const TrainOptions& options, const Plan& plan, const std::string& base_sha256);
  // One line of metrics.jsonl, and for an epoch one of metrics.csv; handed to the system when this returns.
  void record(const Event& event);
  void write_summary(const TrainResult& result);
  // The run is finished: there is nothing to continue.
  void remove_checkpoint();
  // Leaves nothing behind of a run that did not come to its plan (run.json).
  void abandon() noexcept;

  uint64_t events_bytes() const;
  uint64_t table_bytes() const;

 private:
  std::filesystem::path path_;
  bool made_ = false;  // the folder was not there before
  std::ofstream events_, table_;
};

}  // namespace vtl::finetune
