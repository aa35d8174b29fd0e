#include "vtl/tools/finetune/evaluate.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/loader.h"
#include "vtl/tools/finetune/inputs.h"
#include "vtl/tools/finetune/run_folder.h"
#include "vtl/tools/finetune/scopes.h"
#include "vtl/tools/finetune/task.h"
#include "vtl/tools/finetune/tensor_values.h"

namespace vtl::finetune {
namespace {

namespace fs = std::filesystem;

models::LoadOptions load_options(const RunOptions& options) {
  validate(options);
  models::LoadOptions load;
  load.model.height = load.model.width = options.input_size;
  load.model.precision = resolve_precision(options);
  load.model.device = options.device;
  return load;
}

models::LoadedModel with_crop(models::LoadedModel loaded, const RunOptions& options) {
  choose_crop(loaded, options);
  return loaded;
}

// Hands every batch in order to `consume(batch, normalised images)`.
template <class Consume>
std::vector<BadFile> for_each_batch(const models::Model& model, const std::vector<io::Sample>& images,
                                    const RunOptions& options, const Progress& progress, Consume&& consume) {
  NoTapeScope no_tape;
  TrainingScope evaluating(false);
  std::vector<BadFile> bad;
  io::LoaderOptions how;
  how.batch_size = options.batch_size;
  how.order = io::SampleOrder::as_given;
  how.preprocessing = model.facts.preprocessing;
  how.workers = options.workers >= 0 ? options.workers : io::default_workers(options.device);
  how.cache_bytes = 0;
  how.on_bad_file = [&](const BadFile& file) { bad.push_back(file); };
  const auto count = static_cast<int64_t>(images.size());
  io::Loader loader(images, how);
  const Normalizer normalizer(model);
  loader.start(0);
  int64_t done = 0;
  for (io::Batch batch; loader.next(batch);) {
    consume(batch, normalizer(batch.images));
    done += batch.count();
    if (progress) progress(std::min(count, done + static_cast<int64_t>(bad.size())), count);
  }
  return bad;
}

std::string label(const models::ModelFacts& facts, int64_t index) {
  const auto& names = facts.class_names;
  return index < static_cast<int64_t>(names.size()) ? names[static_cast<size_t>(index)] : std::to_string(index);
}

// A model without class names has indices as labels.
std::vector<std::string> labels_of(const models::ModelFacts& facts) {
  std::vector<std::string> labels;
  for (int64_t i = 0; i < facts.classes; ++i) labels.push_back(label(facts, i));
  return labels;
}

void check_has_head(const models::ModelFacts& facts, const char* what) {
  if (facts.classes == 0)
    fail(ErrorKind::bad_model, what, ": the model ", facts.name,
         " has no classifier; take weights with one, fine-tune these first (train), or ask for their features");
}

// The samples of a data folder for a model's classes. Of a model without names the user may not know that folders need
// to be indices.
std::vector<io::Sample> samples_for(const models::ModelFacts& facts, const fs::path& data) {
  try {
    return io::open_evaluation_set(data.string(), labels_of(facts));
  } catch (const Error& error) {
    if (!facts.class_names.empty() || error.problems().empty()) throw;
    throw Error(error.kind(),
                concat(error.what(), ". The model ", facts.name, " has no class names: its labels are the indices 0 to ",
                       facts.classes - 1, ", and so must be those of the data"),
                error.problems());
  }
}

Prediction rank(const models::ModelFacts& facts, const std::string& path, std::vector<float> logits, int64_t top) {
  const auto classes = static_cast<int64_t>(logits.size());
  const int64_t no_label = 0;
  const std::vector<double> probabilities = scores_of_logits(logits, std::span(&no_label, 1), classes).values;
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const int64_t kept = std::min(std::max<int64_t>(top, 1), classes);
  std::partial_sort(order.begin(), order.begin() + kept, order.end(), [&](int64_t a, int64_t b) {
    return logits[static_cast<size_t>(a)] != logits[static_cast<size_t>(b)]
               ? logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]
               : a < b;
  });
  Prediction prediction{path, {}, {}, {}};
  for (int64_t i = 0; i < kept; ++i) {
    const int64_t c = order[static_cast<size_t>(i)];
    prediction.top.push_back({label(facts, c), c, probabilities[static_cast<size_t>(c)]});
  }
  prediction.logits = std::move(logits);
  return prediction;
}

// The pictures of a folder by name; a file is itself.
std::vector<fs::path> expand(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  for (const fs::path& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      files.push_back(path);
      continue;
    }
    std::vector<fs::path> inside;
    std::error_code unreadable;
    for (fs::directory_iterator entry(path, unreadable), end; !unreadable && entry != end; entry.increment(unreadable))
      if (entry->is_regular_file(ignored) && entry->path().filename().string().front() != '.')
        inside.push_back(entry->path());
    if (unreadable) fail(ErrorKind::bad_data, path.string(), ": the folder cannot be read: ", unreadable.message());
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

}  // namespace

models::LoadedModel open_model(const fs::path& what, const RunOptions& options) {
  const bool is_run = is_run_folder(what);
  std::error_code ignored;
  if (!is_run && !fs::exists(what, ignored))
    fail(ErrorKind::bad_model, what.string(), ": no such run folder or model directory");
  return with_crop(models::load_model("", is_run ? what / "best" : what, load_options(options)), options);
}

models::LoadedModel open_model(const ModelOptions& model, const RunOptions& options) {
  return with_crop(models::load_model(model.model, model.weights, load_options(options)), options);
}

Evaluation evaluate(const models::LoadedModel& loaded, const std::vector<io::Sample>& images, const RunOptions& options,
                    const Progress& progress) {
  validate(options);
  const RunScopes scopes(options);
  const auto begin = std::chrono::steady_clock::now();
  const models::Model& model = loaded.model;
  check_has_head(model.facts, "evaluate");
  const auto observer = classification_task({model.facts.class_names, 0, {}}, model.device)->observer();
  Evaluation evaluation;
  int64_t seen = 0;
  evaluation.bad_files = for_each_batch(model, images, options, progress, [&](const io::Batch& batch, const Tensor& x) {
    observer->observe(model.forward(x), batch.labels);
    seen += batch.count();
  });
  if (seen == 0) fail(ErrorKind::bad_data, "evaluate: none of ", images.size(), " pictures can be read");
  evaluation.metrics = observer->metrics();
  evaluation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return evaluation;
}

Evaluation evaluate(const models::LoadedModel& model, const fs::path& data, const RunOptions& options,
                    const Progress& progress, const fs::path& run) {
  check_has_head(model.model.facts, "evaluate");
  std::vector<io::Sample> samples = samples_for(model.model.facts, data);
  const std::set<std::string> known = trained_on(run);
  const auto left_out = known.empty() ? 0 : std::erase_if(samples, [&](const io::Sample& sample) {
    return known.contains(canonical_path(sample.path));
  });
  if (samples.empty())
    fail(ErrorKind::bad_data, data.string(), ": the run ", run.string(), " trained on all of its ", left_out,
         " pictures; give others, or name ", (run / "best").string(), " to evaluate them nevertheless");
  Evaluation evaluation = evaluate(model, samples, options, progress);
  evaluation.trained_on = static_cast<int64_t>(left_out);
  return evaluation;
}

std::vector<Prediction> predict(const models::LoadedModel& model, const std::vector<fs::path>& paths,
                                const RunOptions& options, int64_t top, const Progress& progress) {
  std::vector<io::Sample> samples;
  for (const fs::path& path : expand(paths)) samples.push_back({path.string(), nullptr, io::ClassIndex{0}});
  return predict(model, samples, options, top, progress);
}

std::vector<Prediction> predict(const models::LoadedModel& loaded, const std::vector<io::Sample>& images,
                                const RunOptions& options, int64_t top, const Progress& progress) {
  if (images.empty()) fail(ErrorKind::bad_data, "predict: no pictures were given");
  validate(options);
  const RunScopes scopes(options);
  const models::Model& model = loaded.model;
  check_has_head(model.facts, "predict");
  std::vector<Prediction> predictions(images.size());
  const std::vector<BadFile> bad =
      for_each_batch(model, images, options, progress, [&](const io::Batch& batch, const Tensor& x) {
        const Tensor output = model.forward(x);
        const std::vector<float> logits = host_values(output);
        const int64_t classes = output.dim(-1);
        for (int64_t i = 0; i < batch.count(); ++i) {
          const auto row = logits.begin() + i * classes;
          const auto sample = static_cast<size_t>(batch.samples[static_cast<size_t>(i)]);
          predictions[sample] = rank(model.facts, images[sample].path, {row, row + classes}, top);
        }
      });
  // What was not filled in could not be read; the loader names such files in order.
  size_t next_bad = 0;
  for (size_t i = 0; i < predictions.size(); ++i)
    if (predictions[i].top.empty())
      predictions[i] = {images[i].path, next_bad < bad.size() ? bad[next_bad++].reason : "cannot be read", {}, {}};
  return predictions;
}

Features features(const models::LoadedModel& loaded, const fs::path& data, const RunOptions& options,
                  const Progress& progress) {
  validate(options);
  const RunScopes scopes(options);
  const models::Model& model = loaded.model;
  Features features;
  const io::PictureSet pictures = io::open_pictures(data.string());
  features.classes = pictures.classes;
  features.bad_files = for_each_batch(model, pictures.samples, options, progress, [&](const io::Batch& batch, const Tensor& x) {
    const Tensor output = model.features(x);
    features.width = output.dim(-1);
    const std::vector<float> values = host_values(output);
    features.values.insert(features.values.end(), values.begin(), values.end());
    for (const int64_t sample : batch.samples) {
      const io::Sample& picture = pictures.samples[static_cast<size_t>(sample)];
      features.paths.push_back(picture.path);
      features.labels.push_back(std::get<io::ClassIndex>(picture.target));
    }
  });
  return features;
}

}  // namespace vtl::finetune
