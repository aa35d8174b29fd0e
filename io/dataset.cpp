#include "vtl/io/dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"
#include "vtl/io/csv.h"
#include "vtl/io/file.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail_with(const std::string& what, std::vector<std::string> problems) {
  constexpr size_t kShown = 5;
  std::string message = what;
  for (size_t i = 0; i < std::min(kShown, problems.size()); ++i) message += (i == 0 ? ": " : "; ") + problems[i];
  if (problems.size() > kShown) message += concat("; and ", problems.size() - kShown, " more");
  throw Error(ErrorKind::bad_data, message, std::move(problems));
}

// ---- folders --------------------------------------------------------------------------------------------------------

struct ClassFolder {
  std::string name;
  std::vector<std::string> files;
};

bool hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with('.') || name == "__MACOSX";
}

std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (!hidden(it->path())) entries.push_back(*it);
  if (error) fail(ErrorKind::bad_data, folder.string(), ": cannot be listed: ", error.message());
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.path().filename().string() < b.path().filename().string(); });
  return entries;
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool has_picture_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  constexpr std::array<std::string_view, 24> kExtensions{
      ".jpg", ".jpeg", ".jpe", ".jfif", ".png",  ".apng", ".bmp",  ".dib",  ".pnm", ".ppm", ".pgm", ".pbm", ".pam",
      ".tga", ".gif",  ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd"};
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

bool has_picture_content(const fs::path& path) {
  std::array<uint8_t, 64> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(head.data()), head.size());
  const ImageFormat format = sniff_format({head.data(), static_cast<size_t>(file.gcount())});
  // TGA has no magic: without its extension, what looks like one is too weak a sign.
  return format != ImageFormat::unknown && format != ImageFormat::tga;
}

// The real folders that a walk must not enter (again): links may lead round in a circle.
using Entered = std::set<fs::path>;

// The folder's own files in byte order, then those of its folders: torchvision's order of sorted(os.walk) for usual
// names.
void collect_pictures(const fs::path& folder, Entered& entered, std::vector<std::string>& files,
                      std::vector<std::string>& ignored) {
  std::vector<fs::path> folders;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    std::error_code error;
    if (entry.is_directory(error)) {
      const bool fresh = entered.insert(fs::canonical(entry.path(), error)).second;
      if (fresh) folders.push_back(entry.path());
      else ignored.push_back(entry.path().string());
    } else if (has_picture_extension(entry.path()) ||
               (entry.is_regular_file(error) && has_picture_content(entry.path()))) {
      files.push_back(entry.path().string());
    } else {
      ignored.push_back(entry.path().string());
    }
  }
  for (const fs::path& inner : folders) collect_pictures(inner, entered, files, ignored);
}

std::vector<ClassFolder> class_folders(const fs::path& folder, std::vector<std::string>& ignored) {
  std::vector<ClassFolder> classes;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (!is_folder(entry.path())) continue;
    classes.push_back({entry.path().filename().string(), {}});
    if (!is_utf8(classes.back().name))
      fail(ErrorKind::bad_data, folder.string(), ": the name of the class folder ", in_quotes(classes.back().name),
           " is not UTF-8; rename it");
    std::error_code error;
    Entered entered{fs::canonical(entry.path(), error)};
    for (fs::path above = *entered.begin(); above.has_relative_path(); entered.insert(above))
      above = above.parent_path();
    collect_pictures(entry.path(), entered, classes.back().files, ignored);
  }
  return classes;
}

// train/, val/ and test/ of the folder, those that are there.
std::vector<fs::path> split_folders(const fs::path& root) {
  std::vector<fs::path> folders;
  for (const char* name : {"train", "val", "test"})
    if (is_folder(root / name)) folders.push_back(root / name);
  return folders;
}

// ---- classes --------------------------------------------------------------------------------------------------------

std::optional<ClassIndex> class_index(const std::vector<std::string>& classes, const std::string& name) {
  const auto found = std::find(classes.begin(), classes.end(), name);
  return found == classes.end() ? std::nullopt : std::optional<ClassIndex>(found - classes.begin());
}

std::string list_of(const std::vector<std::string>& classes) {
  constexpr size_t kShown = 10;
  std::string list;
  for (size_t i = 0; i < std::min(kShown, classes.size()); ++i) list += (i ? ", " : "") + classes[i];
  return classes.size() > kShown ? concat(list, ", ... (", classes.size(), " in all)") : list;
}

void append_samples(const std::vector<ClassFolder>& folders, const std::vector<std::string>& classes,
                    const std::string& where, std::vector<Sample>& samples, std::vector<std::string>& problems) {
  for (const ClassFolder& folder : folders) {
    const auto index = class_index(classes, folder.name);
    if (!index) {
      problems.push_back(concat(where, "/", folder.name, ": the class is not one of ", list_of(classes)));
      continue;
    }
    for (const std::string& file : folder.files) samples.push_back({file, nullptr, *index});
  }
}

std::vector<int64_t> count_by_class(const std::vector<Sample>& samples, size_t classes) {
  std::vector<int64_t> counts(classes);
  for (const Sample& sample : samples) ++counts[static_cast<size_t>(std::get<ClassIndex>(sample.target))];
  return counts;
}

void check_training_set(const Dataset& dataset, const std::string& where, std::vector<std::string>& problems) {
  if (dataset.classes.empty()) {
    problems.push_back(where + ": there is no class folder in it (expected one folder of pictures for each class)");
    return;
  }
  const auto counts = count_by_class(dataset.train, dataset.classes.size());
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] == 0) problems.push_back(concat(where, ": the class `", dataset.classes[i], "` has no picture"));
  if (dataset.classes.size() == 1)
    problems.push_back(concat(where, ": there is only one class, `", dataset.classes[0], "`; expected two or more"));
}

void move_to_validation(Dataset& dataset, std::span<const std::string> groups, const DatasetOptions& options) {
  std::vector<ClassIndex> targets;
  for (const Sample& sample : dataset.train) targets.push_back(std::get<ClassIndex>(sample.target));
  const std::vector<bool> marked = stratified_split(targets, groups, options.val_split, options.seed);
  std::vector<Sample> kept;
  for (size_t i = 0; i < marked.size(); ++i) (marked[i] ? dataset.val : kept).push_back(std::move(dataset.train[i]));
  dataset.train = std::move(kept);
  dataset.made_split = true;
  if (dataset.val.empty() && options.val_split > 0)
    fail(ErrorKind::bad_data, "the split leaves no picture for validation: ", dataset.train.size(),
         " pictures are too few, or one group holds them all");
}

Dataset open_folder(const fs::path& root, const DatasetOptions& options) {
  const bool own_split = is_folder(root / "train");
  if (!own_split && is_folder(root / "val"))
    fail(ErrorKind::bad_data, root.string(), ": there is val/ but no train/ in it");
  const fs::path train = own_split ? root / "train" : root;
  Dataset dataset;
  std::vector<std::string> problems;
  const auto folders = class_folders(train, dataset.ignored);
  for (const ClassFolder& folder : folders) dataset.classes.push_back(folder.name);
  append_samples(folders, dataset.classes, train.string(), dataset.train, problems);
  check_training_set(dataset, train.string(), problems);
  for (const auto& [name, samples] : {std::pair{"val", &dataset.val}, std::pair{"test", &dataset.test}}) {
    const fs::path folder = root / name;
    if (!own_split || !is_folder(folder)) continue;
    const size_t before = problems.size();
    append_samples(class_folders(folder, dataset.ignored), dataset.classes, folder.string(), *samples, problems);
    if (samples->empty() && problems.size() == before)
      problems.push_back(folder.string() + ": there is no picture in it");
  }
  if (!problems.empty()) fail_with("the data set " + root.string() + " cannot be used", std::move(problems));
  if (dataset.val.empty()) move_to_validation(dataset, {}, options);
  return dataset;
}

// ---- CSV ------------------------------------------------------------------------------------------------------------

struct CsvRecord {
  std::string path, label, split, group;
};

constexpr uint64_t kMaxListBytes = uint64_t{1} << 30;

std::vector<CsvRecord> read_records(const fs::path& path) {
  const std::vector<CsvRow> rows =
      parse_csv(read_text_file(File(path, ErrorKind::bad_data), kMaxListBytes), path.string());
  if (rows.empty()) fail(ErrorKind::bad_data, path.string(), ": is empty; expected a first line `path,label`");
  const auto& header = rows[0].fields;
  const auto column = [&](const char* name) {
    return static_cast<size_t>(std::find(header.begin(), header.end(), name) - header.begin());
  };
  const size_t path_at = column("path"), label_at = column("label"), split_at = column("split"),
               group_at = column("group");
  if (path_at == header.size() || label_at == header.size())
    fail(ErrorKind::bad_data, path.string(), ":", rows[0].line,
         ": the first line must name the columns `path` and `label` (and may name `split` and `group`)");
  std::vector<CsvRecord> records;
  std::vector<std::string> problems;
  for (size_t i = 1; i < rows.size(); ++i) {
    const CsvRow& row = rows[i];
    const auto problem = [&](const auto&... parts) {
      problems.push_back(concat(path.string(), ":", row.line, ": ", parts...));
    };
    if (row.fields.size() != header.size()) {
      problem("has ", row.fields.size(), " fields, the first line has ", header.size());
      continue;
    }
    const auto field = [&](size_t at) { return at < header.size() ? row.fields[at] : std::string(); };
    CsvRecord record{field(path_at), field(label_at), field(split_at), field(group_at)};
    if (record.path.empty()) problem("has no path");
    if (record.label.empty()) problem("has no label");
    if (!is_utf8(record.label)) problem("the label ", in_quotes(record.label), " is not UTF-8");
    if (!record.split.empty() && record.split != "train" && record.split != "val" && record.split != "test")
      problem("the split is `", record.split, "`, expected train, val or test");
    record.path = (path.parent_path() / record.path).string();
    records.push_back(std::move(record));
  }
  if (!problems.empty()) fail_with("the list " + path.string() + " cannot be used", std::move(problems));
  if (records.empty()) fail(ErrorKind::bad_data, path.string(), ": lists no picture");
  return records;
}

void check_groups(const std::vector<CsvRecord>& records, std::vector<std::string>& problems) {
  std::map<std::string, std::string> split_of;
  for (const CsvRecord& record : records) {
    if (record.group.empty()) continue;
    const std::string split = record.split.empty() ? "train" : record.split;
    const auto [known, fresh] = split_of.emplace(record.group, split);
    if (!fresh && known->second != split && known->second != "both") {
      problems.push_back(concat("the group `", record.group, "` is in ", known->second, " and in ", split));
      known->second = "both";
    }
  }
}

Dataset open_csv(const fs::path& path, const DatasetOptions& options) {
  const std::vector<CsvRecord> records = read_records(path);
  const bool own_split =
      std::any_of(records.begin(), records.end(), [](const CsvRecord& r) { return r.split == "val"; });
  Dataset dataset;
  for (const CsvRecord& record : records)
    if (record.split.empty() || record.split == "train") dataset.classes.push_back(record.label);
  std::sort(dataset.classes.begin(), dataset.classes.end());
  dataset.classes.erase(std::unique(dataset.classes.begin(), dataset.classes.end()), dataset.classes.end());
  std::vector<std::string> problems, groups;
  check_groups(records, problems);
  for (const CsvRecord& record : records) {
    const auto index = class_index(dataset.classes, record.label);
    if (!index) {
      problems.push_back(concat(record.path, ": the class `", record.label,
                                "` is not one of the training set's: ", list_of(dataset.classes)));
      continue;
    }
    auto& samples = record.split == "val" ? dataset.val : record.split == "test" ? dataset.test : dataset.train;
    samples.push_back({record.path, nullptr, *index});
    // A row without a group is one of its own; a line end in the name keeps it apart from given names.
    if (&samples == &dataset.train) groups.push_back(record.group.empty() ? concat("\n", groups.size()) : record.group);
  }
  check_training_set(dataset, path.string(), problems);
  if (!problems.empty()) fail_with("the data set " + path.string() + " cannot be used", std::move(problems));
  if (!own_split) move_to_validation(dataset, groups, options);
  return dataset;
}

bool is_csv(const fs::path& path) { return path.extension() == ".csv" || path.extension() == ".CSV"; }

// What is at the path, or an error that says what was expected there.
enum class Source { folder, csv };
Source source_of(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) fail(ErrorKind::bad_data, path.string(), ": there is no such folder or file");
  if (is_folder(path)) return Source::folder;
  if (is_csv(path)) return Source::csv;
  fail(ErrorKind::bad_data, path.string(), ": is neither a folder of pictures nor a .csv list");
}

// ---- split ----------------------------------------------------------------------------------------------------------

std::vector<int64_t> validation_counts(std::span<const ClassIndex> targets, size_t classes, double val_split) {
  std::vector<int64_t> counts(classes);
  for (const ClassIndex target : targets) ++counts[static_cast<size_t>(target)];
  for (int64_t& count : counts)
    count = count < 2 ? 0 : std::clamp<int64_t>(std::llround(val_split * static_cast<double>(count)), 1, count - 1);
  return counts;
}

void shuffle(std::vector<size_t>& items, RandomSequence& random) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(static_cast<uint32_t>(i))]);
}

}  // namespace

std::vector<bool> stratified_split(std::span<const ClassIndex> targets, std::span<const std::string> groups,
                                   double val_split, uint64_t seed) {
  VTL_CHECK(val_split >= 0 && val_split < 1, "split: a validation share of ", val_split,
            ", expected 0 or more and below 1");
  VTL_CHECK(groups.empty() || groups.size() == targets.size(), "split: ", groups.size(), " groups for ", targets.size(),
            " samples");
  std::vector<bool> marked(targets.size());
  if (targets.empty() || val_split == 0) return marked;
  const size_t classes = static_cast<size_t>(*std::max_element(targets.begin(), targets.end())) + 1;
  std::vector<int64_t> missing = validation_counts(targets, classes, val_split);

  // Whole groups, in random order, are taken while that brings the counts nearer to the wanted ones.
  std::map<std::string, size_t> group_index;
  std::vector<std::vector<size_t>> members;
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto [known, fresh] =
        groups.empty() ? std::pair{group_index.end(), true} : group_index.emplace(groups[i], members.size());
    if (fresh) members.emplace_back();
    members[fresh ? members.size() - 1 : known->second].push_back(i);
  }
  std::vector<size_t> order(members.size());
  std::iota(order.begin(), order.end(), size_t{0});
  RandomSequence random(seed, RandomStream::split, 0, 0);
  shuffle(order, random);
  for (const size_t group : order) {
    std::map<size_t, int64_t> counts;
    for (const size_t sample : members[group]) ++counts[static_cast<size_t>(targets[sample])];
    int64_t nearer = 0;
    for (const auto& [target, count] : counts) nearer += std::abs(missing[target]) - std::abs(missing[target] - count);
    if (nearer <= 0) continue;
    for (const auto& [target, count] : counts) missing[target] -= count;
    for (const size_t sample : members[group]) marked[sample] = true;
  }
  return marked;
}

Dataset open_dataset(const std::string& path, const DatasetOptions& options) {
  VTL_CHECK(options.val_split >= 0 && options.val_split < 1, "val-split: ", options.val_split,
            ", expected 0 or more and below 1");
  return source_of(path) == Source::folder ? open_folder(path, options) : open_csv(path, options);
}

std::vector<Sample> open_evaluation_set(const std::string& path, const std::vector<std::string>& classes) {
  VTL_CHECK(!classes.empty(), "open_evaluation_set: the list of classes is empty");
  std::vector<Sample> samples;
  std::vector<std::string> problems, ignored;
  if (source_of(path) == Source::folder) {
    const fs::path root(path);
    const fs::path folder = is_folder(root / "val") ? root / "val" : is_folder(root / "test") ? root / "test" : root;
    if (folder == root && is_folder(root / "train")) fail(ErrorKind::bad_data, path, ": there is train/ but neither val/ nor test/ in it");
    append_samples(class_folders(folder, ignored), classes, folder.string(), samples, problems);
  } else {
    const std::vector<CsvRecord> records = read_records(path);
    const auto uses = [&](const char* split) {
      return std::any_of(records.begin(), records.end(), [&](const auto& r) { return r.split == split; });
    };
    const std::string split = uses("val") ? "val" : uses("test") ? "test" : "";
    for (const CsvRecord& record : records) {
      if (!split.empty() && record.split != split) continue;
      if (const auto index = class_index(classes, record.label)) samples.push_back({record.path, nullptr, *index});
      else problems.push_back(concat(record.path, ": the class `", record.label, "` is not one of ", list_of(classes)));
    }
  }
  if (!problems.empty()) fail_with("the data set " + path + " does not fit the model's classes", std::move(problems));
  if (samples.empty())
    fail(ErrorKind::bad_data, path, ": there is no picture in it (expected one folder of pictures for each class)");
  return samples;
}

PictureSet open_pictures(const std::string& path) {
  std::vector<std::pair<std::string, std::string>> labelled;  // path, label
  if (source_of(path) == Source::folder) {
    std::vector<std::string> ignored;
    std::vector<fs::path> roots = split_folders(path);
    if (roots.empty()) roots = {path};
    for (const fs::path& root : roots)
      for (const ClassFolder& folder : class_folders(root, ignored))
        for (const std::string& file : folder.files) labelled.emplace_back(file, folder.name);
  } else {
    for (const CsvRecord& record : read_records(path)) labelled.emplace_back(record.path, record.label);
  }
  if (labelled.empty())
    fail(ErrorKind::bad_data, path, ": there is no picture in it (expected one folder of pictures for each class)");
  std::sort(labelled.begin(), labelled.end());
  std::set<std::string> labels;
  for (const auto& [file, label] : labelled) labels.insert(label);
  PictureSet pictures{{labels.begin(), labels.end()}, {}};
  for (const auto& [file, label] : labelled)
    pictures.samples.push_back({file, nullptr, *class_index(pictures.classes, label)});
  return pictures;
}

std::vector<ScanFinding> scan_samples(std::span<const Sample> samples, ScanDepth depth, const ImageLimits& limits) {
  std::vector<std::string> reasons(samples.size());
  parallel_for(static_cast<int64_t>(samples.size()), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Sample& sample = samples[static_cast<size_t>(i)];
      if (sample.image) continue;
      try {
        if (depth == ScanDepth::headers) read_image_info(sample.path, limits);
        else read_image(sample.path, limits);
      } catch (const std::exception& error) {
        reasons[static_cast<size_t>(i)] = error.what();
      }
    }
  });
  std::vector<ScanFinding> findings;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (reasons[i].empty()) continue;
    const std::string& path = samples[i].path;
    const bool named = reasons[i].starts_with(path + ": ");
    findings.push_back({i, {path, named ? reasons[i].substr(path.size() + 2) : reasons[i]}});
  }
  return findings;
}

int64_t allowed_bad_files(int64_t files, double max_bad) {
  VTL_CHECK(max_bad >= 0 && max_bad <= 1, "max-bad: ", max_bad, ", expected 0 to 1");
  return std::max<int64_t>(1, static_cast<int64_t>(std::floor(max_bad * static_cast<double>(files))));
}

std::vector<BadFile> drop_bad_files(Dataset& dataset, double max_bad, ScanDepth depth, const ImageLimits& limits) {
  const int64_t files = static_cast<int64_t>(dataset.train.size() + dataset.val.size() + dataset.test.size());
  const int64_t allowed = allowed_bad_files(files, max_bad);
  const bool had_val = !dataset.val.empty();
  std::vector<BadFile> bad;
  for (std::vector<Sample>* samples : {&dataset.train, &dataset.val, &dataset.test}) {
    const auto findings = scan_samples(*samples, depth, limits);
    std::vector<Sample> kept;
    auto next = findings.begin();
    for (size_t i = 0; i < samples->size(); ++i) {
      if (next != findings.end() && next->sample == i) bad.push_back((next++)->file);
      else kept.push_back(std::move((*samples)[i]));
    }
    *samples = std::move(kept);
  }
  std::vector<std::string> problems;
  for (const BadFile& file : bad) problems.push_back(file.path + ": " + file.reason);
  if (static_cast<int64_t>(bad.size()) > allowed)
    fail_with(concat(bad.size(), " of ", files, " pictures cannot be read, ", allowed, " are allowed (max-bad)"),
              std::move(problems));
  const auto counts = count_by_class(dataset.train, dataset.classes.size());
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] == 0)
      fail_with(concat("the class `", dataset.classes[i], "` has no training picture that can be read"), problems);
  if (had_val && dataset.val.empty()) fail_with("no validation picture can be read", problems);
  return bad;
}

}  // namespace vtl::io
