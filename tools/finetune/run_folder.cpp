#include "vtl/tools/finetune/run_folder.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "vtl/core/cpu.h"
#include "vtl/core/error.h"
#include "vtl/tools/finetune/json.h"

namespace vtl::finetune {
namespace {

namespace fs = std::filesystem;

std::ofstream open_for_writing(const fs::path& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file) fail(ErrorKind::io, path.string(), ": cannot be written: ", std::strerror(errno));
  return file;
}

void write_line(std::ofstream& file, const fs::path& folder, const std::string& line) {
  file << line << '\n';
  file.flush();
  if (!file) fail(ErrorKind::io, folder.string(), ": writing failed: ", std::strerror(errno), "; is the disk full?");
}

// Whole or not at all: written beside its place, then moved there.
void write_file(const fs::path& path, const std::string& text) {
  fs::path beside = path;
  beside += ".part";
  std::ofstream file = open_for_writing(beside);
  write_line(file, path.parent_path(), text);
  file.close();
  std::error_code error;
  fs::rename(beside, path, error);
  if (error) fail(ErrorKind::io, path.string(), ": cannot be written: ", error.message());
}

std::string pretty(const std::string& json) {
  return nlohmann::ordered_json::parse(json).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

fs::path make_folder(fs::path path) {
  if (is_run_folder(path))
    fail(ErrorKind::bad_argument, "--out: ", path.string(), " holds another run; choose another folder, or remove it");
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path)) {
    const std::string reason = error ? error.message() : "it is a file";
    fail(ErrorKind::io, path.string(), ": the run folder cannot be made: ", reason);
  }
  return path;
}

}  // namespace

bool is_run_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path / "run.json", ignored) || fs::exists(path / "metrics.jsonl", ignored);
}

RunFolder::RunFolder(fs::path path) : path_(make_folder(std::move(path))) {
  events_ = open_for_writing(path_ / "metrics.jsonl");
  table_ = open_for_writing(path_ / "metrics.csv");
  write_line(table_, path_, "epoch,train_loss,train_accuracy,val_loss,val_accuracy,top5,macro_f1,auc,seconds");
}

void RunFolder::write_run(const TrainOptions& options, const Plan& plan, const std::string& base_sha256) {
  const nlohmann::ordered_json run = {{"vtl", VTL_VERSION},
                                      {"cpu", name(cpu_level())},
                                      {"base_sha256", base_sha256},
                                      {"options", nlohmann::ordered_json::parse(options_json(options))},
                                      {"plan", nlohmann::ordered_json::parse(to_json(Event(plan)))}};
  write_file(path_ / "run.json", run.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void RunFolder::record(const Event& event) {
  write_line(events_, path_, to_json(event));
  const auto* epoch = std::get_if<EpochEvent>(&event);
  if (!epoch) return;
  const Metrics& val = epoch->validation;
  write_line(table_, path_,
             concat(epoch->epoch, ',', epoch->train_loss, ',', epoch->train_accuracy, ',', val.loss, ',', val.accuracy, ',',
                    val.top5, ',', val.macro_f1, ',', val.auc ? concat(*val.auc) : "", ',', epoch->seconds));
}

void RunFolder::write_summary(const TrainResult& result) { write_file(path_ / "summary.json", pretty(to_json(result))); }

}  // namespace vtl::finetune
