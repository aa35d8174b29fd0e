#include "vtl/tools/finetune/run_folder.h"

#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "vtl/core/cpu.h"
#include "vtl/core/error.h"
#include "vtl/io/csv.h"
#include "vtl/io/json.h"
#include "vtl/io/sha256.h"
#include "vtl/tools/finetune/json.h"

namespace vtl::finetune {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxSplitBytes = uint64_t{1} << 32;

// What cannot be looked at is not there: writing into it will say why.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

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

void write_pretty(const fs::path& path, const nlohmann::ordered_json& json) {
  io::write_text_file(path, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

// Cut to `bytes`, to be written on.
std::ofstream open_at(const fs::path& path, uint64_t bytes) {
  std::error_code error;
  if (fs::file_size(path, error) < bytes || error)
    fail(ErrorKind::bad_data, path.string(),
         ": is shorter than when the run was stopped; begin anew in another folder");
  fs::resize_file(path, bytes, error);
  std::ofstream file(path, std::ios::binary | std::ios::app);
  if (error || !file)
    fail(ErrorKind::io, path.string(), ": cannot be written: ", error ? error.message() : std::strerror(errno));
  return file;
}

uint64_t size_of(const fs::path& path) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  if (error) fail(ErrorKind::io, path.string(), ": is not there any more: ", error.message());
  return bytes;
}

// The options that two parts of one run share.
nlohmann::json identity(const std::string& options) {
  nlohmann::json json = nlohmann::json::parse(options);
  for (const char* key : {"out", "threads", "workers"}) json.erase(key);
  return json;
}

bool has_options(const fs::path& path, const TrainOptions& options) {
  const nlohmann::json run = io::read_json_file(path / "run.json", ErrorKind::bad_data);
  return run.contains("options") && identity(run["options"].dump()) == identity(options_json(options));
}

// Something that a new run of these options would destroy. best/ alone is what they come to again.
bool holds_results(const fs::path& path, const TrainOptions& options) {
  if (!is_run_folder(path)) return false;
  if (is_there(path / "summary.json") || is_there(RunFolder::checkpoint_of(path))) return true;
  return is_there(path / "best") && !has_options(path, options);
}

fs::path made(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  std::error_code ignored;
  if (error || !fs::is_directory(path, ignored)) {
    const std::string reason = error ? error.message() : "it is a file";
    fail(ErrorKind::io, path.string(), ": the run folder cannot be made: ", reason);
  }
  return path;
}

// Until the descriptor is closed, also by the end of the process. File systems without locks go without.
void lock(const io::Directory& folder) {
  if (::flock(folder.descriptor(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    fail(ErrorKind::bad_argument, "--out: another run is writing into ", folder.path().string(),
         "; wait for its end, or choose another folder");
}

void check_source(const fs::path& path, const nlohmann::json& run, const char* key, const std::string& now,
                  ErrorKind kind, const char* what) {
  const std::string before = run.value(key, "");
  if (before != now)
    fail(kind, path.string(), ": ", key, " is \"", before, "\", but now it is \"", now, "\": the run was begun with ",
         what, "; bring them back, or begin anew with another --out");
}

}  // namespace

bool is_run_folder(const fs::path& path) { return is_there(path / "run.json"); }

bool can_resume(const fs::path& path, const TrainOptions& options) {
  return is_run_folder(path) && !is_there(path / "summary.json") && is_there(RunFolder::checkpoint_of(path)) &&
         has_options(path, options);
}

fs::path default_run_folder(const TrainOptions& options) {
  // "data/flowers/" and "data/flowers.csv" both give "flowers".
  const fs::path data = (options.data / "").parent_path().stem();
  const std::string base = concat(data.empty() ? "run" : data.string(), "-", name(options.strategy));
  fs::path folder = fs::path("runs") / base;
  for (int number = 2; is_there(folder); ++number) {
    if (options.resume != ResumeChoice::off && can_resume(folder, options)) break;
    folder = fs::path("runs") / concat(base, "-", number);
  }
  return folder;
}

void check_run_folder(const TrainOptions& options) {
  const fs::path& path = options.out;
  if (options.resume != ResumeChoice::off && can_resume(path, options)) return;
  if (options.resume == ResumeChoice::on)
    fail(ErrorKind::bad_argument, "--resume: ", path.string(), " holds no stopped run with these options");
  if (holds_results(path, options))
    fail(ErrorKind::bad_argument, "--out: ", path.string(), " holds another run; choose another folder, or remove it");
}

RunSources sources_of(const models::LoadedModel& model, const io::Dataset& data) {
  io::Sha256 list;
  // The zero byte is in no name.
  const auto add = [&](const std::string& text) { list.update(std::as_bytes(std::span(text.c_str(), text.size() + 1))); };
  for (const std::string& name : data.classes) add(name);
  for (const auto& [split, samples] :
       {std::pair{"train", &data.train}, std::pair{"val", &data.val}, std::pair{"test", &data.test}})
    for (const io::Sample& sample : *samples)
      add(concat(split, ' ', std::get<io::ClassIndex>(sample.target), ' ', sample.path));
  return {models::base_sha256(model), list.finish()};
}

std::string canonical_path(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  return (error ? path : found).string();
}

std::set<std::string> trained_on(const fs::path& path) {
  std::set<std::string> paths;
  if (!is_run_folder(path) || !is_there(path / "split.csv")) return paths;
  const fs::path list = path / "split.csv";
  for (const io::CsvRow& row : io::parse_csv(io::read_text_file(list, kMaxSplitBytes), list.string())) {
    if (row.fields.size() != 3)
      fail(ErrorKind::bad_data, list.string(), ":", row.line, ": has ", row.fields.size(),
           " fields, expected path, label and split; remove the file to evaluate all pictures");
    if (row.fields[2] == "train") paths.insert(row.fields[0]);
  }
  return paths;
}

RunFolder::RunFolder(const TrainOptions& options)
    : path_(options.out), made_(!is_there(path_)), folder_(made(path_)) {
  lock(folder_);
  check_run_folder(options);
  resumes_ = options.resume != ResumeChoice::off && can_resume(path_, options);
  if (resumes_) return;
  events_ = open_for_writing(path_ / "metrics.jsonl");
  table_ = open_for_writing(path_ / "metrics.csv");
  write_line(table_, path_, "epoch,train_loss,train_accuracy,val_loss,val_accuracy,top5,macro_f1,auc,seconds");
}

void RunFolder::cut(uint64_t events_bytes, uint64_t table_bytes) {
  events_ = open_at(path_ / "metrics.jsonl", events_bytes);
  table_ = open_at(path_ / "metrics.csv", table_bytes);
}

void RunFolder::write_run(const TrainOptions& options, const Plan& plan, const RunSources& sources) {
  if (resumes_) {
    const fs::path path = path_ / "run.json";
    const nlohmann::json before = io::read_json_file(path, ErrorKind::bad_data);
    check_source(path, before, "base_sha256", sources.base_sha256, ErrorKind::bad_model, "other weights");
    check_source(path, before, "data_sha256", sources.data_sha256, ErrorKind::bad_data, "other pictures or classes");
  }
  const nlohmann::ordered_json run = {{"vtl", VTL_VERSION},
                                      {"cpu", name(cpu_level())},
                                      {"command", options.command},
                                      {"base_sha256", sources.base_sha256},
                                      {"data_sha256", sources.data_sha256},
                                      {"options", nlohmann::ordered_json::parse(options_json(options))},
                                      {"plan", nlohmann::ordered_json::parse(to_json(Event(plan)))}};
  write_pretty(path_ / "run.json", run);
}

void RunFolder::write_split(const io::Dataset& data) {
  std::string text = "path,label,split\n";
  for (const auto& [split, samples] :
       {std::pair{"train", &data.train}, std::pair{"val", &data.val}, std::pair{"test", &data.test}})
    for (const io::Sample& sample : *samples) {
      if (sample.image) continue;
      const auto label = static_cast<size_t>(std::get<io::ClassIndex>(sample.target));
      text += io::csv_quoted(canonical_path(sample.path)) + ',' + io::csv_quoted(data.classes[label]) + ',' + split + '\n';
    }
  io::write_text_file(path_ / "split.csv", text);
}

void RunFolder::record(const Event& event) {
  write_line(events_, path_, to_json(event));
  const auto* epoch = std::get_if<EpochEvent>(&event);
  if (!epoch) return;
  has_epoch_ = true;
  const Metrics& val = epoch->validation;
  write_line(table_, path_,
             concat(epoch->epoch, ',', epoch->train_loss, ',', epoch->train_accuracy, ',', val.loss, ',', val.accuracy,
                    ',', val.top5, ',', val.macro_f1, ',', val.auc ? concat(*val.auc) : "", ',', epoch->seconds));
}

void RunFolder::remove_checkpoint() {
  std::error_code ignored;
  fs::remove_all(path_ / "checkpoints", ignored);
}

void RunFolder::abandon() noexcept {
  std::error_code ignored;
  if (resumes_ || has_epoch_) return;
  for (const char* file : {"run.json", "metrics.jsonl", "metrics.csv", "split.csv"}) fs::remove(path_ / file, ignored);
  if (made_) fs::remove(path_, ignored);
}

// Every line is flushed, so the sizes on disk are those of whole lines.
uint64_t RunFolder::events_bytes() const { return size_of(path_ / "metrics.jsonl"); }
uint64_t RunFolder::table_bytes() const { return size_of(path_ / "metrics.csv"); }

void RunFolder::write_summary(const TrainResult& result) {
  write_pretty(path_ / "summary.json", nlohmann::ordered_json::parse(to_json(result)));
}

}  // namespace vtl::finetune
