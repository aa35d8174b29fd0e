// The folder that a run leaves behind: run.json, metrics.jsonl, metrics.csv, split.csv, summary.json, best/, last/, adapter/.
#pragma once

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "vtl/io/file.h"
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

// Throws bad_argument when `options.out` holds another run, or none to continue where one must be continued. A run that
// was broken off before its first checkpoint is in nobody's way; makes nothing.
void check_run_folder(const TrainOptions& options);

// What a run was made from, beside its options.
struct RunSources {
  std::string base_sha256;  // of the weights file; empty for a model from scratch
  std::string data_sha256;  // of the list of classes and of samples: split, class, path
};
RunSources sources_of(const models::LoadedModel& model, const io::Dataset& data);

// The pictures that the run in `path` trained on, where their data had no validation part of its own: from split.csv, by
// canonical_path. Empty for other folders.
std::set<std::string> trained_on(const std::filesystem::path& path);
std::string canonical_path(const std::filesystem::path& path);

class RunFolder {
 public:
  // Makes `options.out`, parents included, and keeps others from writing into it. Throws what check_run_folder throws,
  // bad_argument when another run is under way in it, io when it cannot be written.
  explicit RunFolder(const TrainOptions& options);

  // Whether it holds a run to be continued: cut() comes first then. Drops what was recorded after so many bytes.
  bool resumes() const { return resumes_; }
  void cut(uint64_t events_bytes, uint64_t table_bytes);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best() const { return path_ / "best"; }
  std::filesystem::path last() const { return path_ / "last"; }
  std::filesystem::path adapter() const { return path_ / "adapter"; }
  std::filesystem::path checkpoint() const { return checkpoint_of(path_); }
  static std::filesystem::path checkpoint_of(const std::filesystem::path& path) {
    return path / "checkpoints" / "last.safetensors";
  }

  // run.json: the effective configuration, versions, command, hashes. Throws bad_model or bad_data, and leaves all as it is, when
  // the run to be continued was begun with other weights or other data.
  void write_run(const TrainOptions& options, const Plan& plan, const RunSources& sources);
  // split.csv, a data set as open_dataset takes it: what was set aside for validation, and what was left to train on.
  void write_split(const io::Dataset& data);
  // One line of metrics.jsonl, and for an epoch one of metrics.csv; handed to the system when this returns.
  void record(const Event& event);
  void write_summary(const TrainResult& result);
  // The run is finished: there is nothing to continue.
  void remove_checkpoint();
  // Leaves no trace of a run that did not come to the end of an epoch.
  void abandon() noexcept;

  uint64_t events_bytes() const;
  uint64_t table_bytes() const;

 private:
  std::filesystem::path path_;
  bool made_ = false;     // the folder was not there before
  io::Directory folder_;  // locked
  bool resumes_ = false;
  bool has_epoch_ = false;
  std::ofstream events_, table_;
};

}  // namespace vtl::finetune
