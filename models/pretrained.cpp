#include "vtl/models/pretrained.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "vtl/core/error.h"
#include "vtl/io/file.h"
#include "vtl/io/safetensors_writer.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/conv2d.h"
#include "vtl/layers/linear.h"
#include "vtl/models/description.h"
#include "vtl/models/lora.h"
#include "vtl/models/position.h"
#include "vtl/models/pretrained_source.h"

namespace vtl::models {
namespace {

// ---- what a model holds
// ----------------------------------------------------------------------------------------------

// A tensor of the model as files know it.
struct Entry {
  std::string name;
  Shape shape;  // in files
  layers::Parameter* parameter = nullptr;
  Tensor* buffer = nullptr;
  DType buffer_dtype = DType::f32;
  // What is added to it when it is saved; null without adapters.
  const std::vector<layers::LowRank>* adapters = nullptr;
};

class Collector : public layers::Visitor {
 public:
  std::vector<Entry> entries;
  std::vector<std::string> linears;

  void on_linear(const std::string& name, layers::Linear& layer) override {
    linears.push_back(name);
    weight_ = name + ".weight";
    adapters_ = &layer.low_rank;
  }
  void on_conv2d(const std::string& name, layers::Conv2d& layer) override {
    weight_ = name + ".weight";
    adapters_ = &layer.low_rank;
  }
  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    if (is_adapter_name(name)) return;
    const bool adapted = name == weight_ && !adapters_->empty();
    entries.push_back({name, parameter.file_shape(), &parameter, nullptr, DType::f32, adapted ? adapters_ : nullptr});
  }
  void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override {
    const Shape channels = norm.weight.shape();
    entries.push_back({name + ".running_mean", channels, nullptr, &norm.running_mean});
    entries.push_back({name + ".running_var", channels, nullptr, &norm.running_var});
    entries.push_back({name + ".num_batches_tracked", {}, nullptr, &norm.num_batches_tracked, DType::i64});
  }

 private:
  std::string weight_;
  const std::vector<layers::LowRank>* adapters_ = nullptr;
};

Collector collect(const Model& model) {
  Collector collector;
  model.visit(collector);
  return collector;
}

Collector collect_head(const Model& model) {
  Collector collector;
  for (const Stage& stage : model.stages())
    if (stage.kind == Stage::Kind::head) stage.visit(collector);
  return collector;
}

bool same_shape(const Shape& expected, const std::vector<uint64_t>& found) {
  return std::equal(expected.dims().begin(), expected.dims().end(), found.begin(), found.end(),
                    [](int64_t a, uint64_t b) { return a >= 0 && static_cast<uint64_t>(a) == b; });
}

bool is_optional(const Entry& entry) { return entry.buffer && entry.buffer_dtype == DType::i64; }

// ---- what a file holds
// -----------------------------------------------------------------------------------------------

std::vector<std::string> names_of(const io::WeightFile& file) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < file.size(); ++i) names.emplace_back(file.name(i));
  return names;
}

std::string first_few(const std::vector<std::string>& items, size_t count = 5) {
  std::string text;
  for (size_t i = 0; i < std::min(count, items.size()); ++i) text += (i > 0 ? ", " : "") + items[i];
  return text + (items.size() > count ? ", ..." : "");
}

Recognised recognise_or_fail(const io::WeightFile& file) {
  const std::vector<std::string> names = names_of(file);
  if (auto recognised = recognise(names)) return *recognised;
  const std::string foreign = describe_foreign(names);
  if (!foreign.empty())
    fail(ErrorKind::bad_model, file.path().string(), ": these are weights of ", foreign,
         ", a kind of model that vtl does not make");
  fail(ErrorKind::bad_model, file.path().string(), ": the names of its ", names.size(), " tensors (",
       first_few(names, 3), ") are not those of any model that vtl makes");
}

struct Match {
  std::string model;
  double share = 0;  // of the tensors of both sides, 1: all agree
};

// How well a file fits every architecture, leaving out classifiers and the size of position grids; best first.
std::vector<Match> rank_models(const std::map<std::string, Origin>& origins) {
  std::vector<Match> matches;
  for (const ModelSummary& summary : list_models()) {
    const Model model = describe_model(summary.name);
    const Collector head = collect_head(model);
    size_t expected = 0, agreeing = 0, head_found = 0;
    for (const Entry& entry : collect(model).entries) {
      const auto found = origins.find(entry.name);
      const bool in_head =
          std::any_of(head.entries.begin(), head.entries.end(), [&](const Entry& h) { return h.name == entry.name; });
      if (in_head) {
        head_found += found != origins.end();
        continue;
      }
      if (is_optional(entry) && found == origins.end()) continue;
      ++expected;
      agreeing +=
          found != origins.end() && (entry.name == "pos_embed" || same_shape(entry.shape, found->second.shape()));
    }
    // A file without a classifier still fits; one with a classifier that this model does not have has tensors too many.
    const size_t theirs = origins.size() - head_found;
    matches.push_back({summary.name, 2.0 * static_cast<double>(agreeing) / static_cast<double>(expected + theirs)});
  }
  std::stable_sort(matches.begin(), matches.end(), [](const Match& a, const Match& b) { return a.share > b.share; });
  return matches;
}

std::vector<std::string> fitting_models(const std::vector<Match>& ranked) {
  std::vector<std::string> names;
  for (const Match& match : ranked)
    if (match.share == 1.0) names.push_back(match.model);
  return names;
}

std::string advise(const std::map<std::string, Origin>& origins) {
  const std::vector<Match> ranked = rank_models(origins);
  const std::vector<std::string> fitting = fitting_models(ranked);
  if (!fitting.empty()) return "The file fits " + first_few(fitting, 3) + ": name that model";
  if (!ranked.empty() && ranked[0].share > 0.3) return "The nearest model is " + ranked[0].model;
  return "No known model is near";
}

// ---- which model to make
// ---------------------------------------------------------------------------------------------

std::string bare_name(std::string_view name) { return std::string(name.substr(0, name.find('.'))); }

std::string choose_name(std::string_view asked, const Description& said, const io::WeightFile& file,
                        const std::map<std::string, Origin>& origins) {
  const std::string source = file.path().string();
  if (asked.empty()) {
    if (said.architecture) {
      if (!is_known(*said.architecture))
        fail(ErrorKind::bad_model, source, ": the file is of the model '", *said.architecture,
             "', which vtl does not make");
      return *said.architecture;
    }
    fail(ErrorKind::bad_model, source, ": neither config.json nor the metadata name the model. ", advise(origins),
         " (--model)");
  }
  describe_model(asked);  // throws for an unknown name or tag
  if (said.architecture && bare_name(asked) != bare_name(*said.architecture))
    fail(ErrorKind::bad_model, source, ": the file says that it is ", *said.architecture, ", asked for is ", asked,
         "; leave the model's name out or name the weights of ", asked);
  if (asked.find('.') != std::string_view::npos && said.tag && *said.tag != "vtl" &&
      *said.tag != asked.substr(asked.find('.') + 1))
    fail(ErrorKind::bad_model, source, ": the file says that it is ", bare_name(asked), ".", *said.tag,
         ", asked for is ", asked);
  return std::string(asked);
}

// What the position embedding of a file is made for.
struct Positions {
  int64_t patch = 0, prefix = 0;
  Grid grid;
};

// From the embedding's length and from what the file says; nothing for a model without one. `usual` is the model at its
// usual size.
std::optional<Positions> read_positions(const Model& usual, const Description& said,
                                        const std::map<std::string, Origin>& origins, const std::string& source) {
  const auto origin = origins.find("pos_embed");
  if (usual.facts.family != "vit" || origin == origins.end()) return std::nullopt;
  Positions found;
  int64_t usual_length = 0;
  for (const Entry& entry : collect(usual).entries) {
    if (entry.name == "patch_embed.proj.weight") found.patch = entry.shape[2];
    if (entry.name == "pos_embed") usual_length = entry.shape[1];
  }
  const auto grid_of = [&](int64_t height, int64_t width) { return Grid{height / found.patch, width / found.patch}; };
  const Grid usual_grid = grid_of(usual.facts.preprocessing.height, usual.facts.preprocessing.width);
  found.prefix = usual_length - usual_grid.count();
  const std::vector<uint64_t> shape = origin->second.shape();
  const int64_t count = (shape.size() == 3 ? static_cast<int64_t>(shape[1]) : 0) - found.prefix;
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(std::max<int64_t>(count, 0)))));
  if (said.height && said.width && grid_of(*said.height, *said.width).count() == count)
    found.grid = grid_of(*said.height, *said.width);
  else if (usual_grid.count() == count)
    found.grid = usual_grid;
  else if (count > 0 && side * side == count)
    found.grid = {side, side};
  else
    fail(ErrorKind::bad_model, source, ": pos_embed ", io::to_string(shape), " is no square grid behind the ",
         found.prefix, " other tokens of ", usual.facts.name, ", and the file does not say its input size. ",
         advise(origins));
  return found;
}

// Where the caller leaves a choice open, the file decides, and then `usual`; where he overrules them there is a note.
ModelOptions complete(ModelOptions options, const Description& said, const Recognised& recognised,
                      const std::optional<Positions>& positions, const io::Preprocessing& usual,
                      std::vector<std::string>& notes) {
  const int64_t height = positions ? positions->grid.height * positions->patch : said.height.value_or(usual.height);
  const int64_t width = positions ? positions->grid.width * positions->patch : said.width.value_or(usual.width);
  if (!options.height) options.height = height;
  if (!options.width) options.width = width;
  if (*options.height != height || *options.width != width)
    notes.push_back(concat("input ", *options.height, " x ", *options.width, " as asked for; the model's is ", height,
                           " x ", width));
  if (options.norm_eps && said.norm_eps && *options.norm_eps != *said.norm_eps)
    notes.push_back(concat("norm eps ", *options.norm_eps, " as asked for; the file says ", *said.norm_eps));
  if (!options.norm_eps) options.norm_eps = said.norm_eps;
  if (!options.norm_eps && recognised.dialect == Dialect::huggingface && recognised.family == "vit") {
    options.norm_eps = 1e-12;
    notes.push_back(
        "norm eps 1e-12, what Hugging Face's vision transformers have unless their config.json says otherwise");
  }
  if (recognised.family != "vit") return options;
  if (options.pool && said.pool && *options.pool != *said.pool)
    notes.push_back("pooling " + *options.pool + " as asked for; the file says " + *said.pool);
  if (!options.pool) options.pool = said.pool;
  return options;
}

// Constants that no shape tells must not differ from those of the model.
void check_constants(const Description& said, const ModelFacts& facts, const std::string& source) {
  const auto check = [&](const char* what, const std::optional<std::string>& file, const std::string& model) {
    if (file && *file != model)
      fail(ErrorKind::bad_model, source, ": the file says ", what, " ", *file, ", ", facts.name, " has ", model,
           "; choose the model that these weights were made for");
  };
  check("activation", said.activation, facts.constants.activation);
  check("padding", said.padding, facts.constants.padding);
}

struct HeadChoice {
  bool keep = false;
  int64_t classes = 0;
  std::vector<std::string> names;
};

HeadChoice choose_head(const LoadOptions& options, const Description& said, int64_t file_classes,
                       const std::string& source) {
  const std::vector<std::string>&wanted = options.class_names, &known = said.class_names;
  std::optional<int64_t> count = options.model.classes;
  if (!wanted.empty()) {
    VTL_CHECK(!count || *count == static_cast<int64_t>(wanted.size()), "load_model: ", *count, " classes and ",
              wanted.size(), " class names");
    count = static_cast<int64_t>(wanted.size());
  }
  if (file_classes > 0) {
    const auto contradict = [&](const char* what, int64_t other) {
      if (other != file_classes)
        fail(ErrorKind::bad_model, source, ": the classifier has ", file_classes, " outputs, ", what, " ", other);
    };
    if (said.classes) contradict("config.json says", *said.classes);
    if (!known.empty()) contradict("the names of its classes number", static_cast<int64_t>(known.size()));
  }
  const bool fits = file_classes > 0 && (!count || *count == file_classes);
  if (options.head == HeadPolicy::keep) {
    if (!fits)
      fail(ErrorKind::bad_model, source, ": its classifier cannot be kept: it has ", file_classes,
           " outputs, wanted are ", count.value_or(0), " (--head new makes a new one)");
    return {true, file_classes, wanted.empty() ? known : wanted};
  }
  if (options.head == HeadPolicy::automatic && fits && (wanted.empty() || wanted == known))
    return {true, file_classes, known};
  return {false, count.value_or(file_classes), wanted};
}

// ---- do they fit?
// ----------------------------------------------------------------------------------------------------

struct Misfits {
  std::vector<std::string> unknown, missing, unexpected, shapes, types;

  bool any() const {
    return !(unknown.empty() && missing.empty() && unexpected.empty() && shapes.empty() && types.empty());
  }

  [[noreturn]] void fail(const std::string& source, const std::string& model,
                         const std::map<std::string, Origin>& origins) const {
    std::string message = source + " does not fit " + model + ": ";
    std::vector<std::string> problems;
    bool first = true;
    const auto add = [&](const std::vector<std::string>& items, const char* what) {
      if (items.empty()) return;
      message += concat(first ? "" : "; ", items.size(), " ", what, " (", first_few(items), ")");
      first = false;
      for (const std::string& item : items) problems.push_back(std::string(what) + ": " + item);
    };
    add(unknown, "not understood");
    add(missing, "missing");
    add(unexpected, "not expected");
    add(shapes, "of another shape");
    add(types, "of a type that cannot be converted");
    throw Error(ErrorKind::bad_model, message + ". " + advise(origins), problems);
  }
};

bool converts_to_f32(io::FileDType dtype) {
  using enum io::FileDType;
  return dtype == f32 || dtype == f16 || dtype == bf16 || dtype == f64;
}

bool is_integer(io::FileDType dtype) { return dtype == io::FileDType::i64 || dtype == io::FileDType::i32; }

struct Names {
  std::set<std::string> head;  // of the classifier, there or not
  bool keep_head = false;
};

Misfits compare(const std::vector<Entry>& entries, const Names& names, const Inventory& inventory, bool resample) {
  Misfits misfits;
  misfits.unknown = inventory.problems;
  std::set<std::string> expected;
  for (const Entry& entry : entries) {
    expected.insert(entry.name);
    if (!names.keep_head && names.head.count(entry.name)) continue;
    const auto found = inventory.origins.find(entry.name);
    if (found == inventory.origins.end()) {
      if (!is_optional(entry)) misfits.missing.push_back(entry.name);
      continue;
    }
    const Origin& origin = found->second;
    const std::vector<uint64_t> shape = origin.shape();
    const bool other_grid = resample && entry.name == "pos_embed" && shape.size() == 3 &&
                            shape[2] == static_cast<uint64_t>(entry.shape[2]) && shape[0] == 1;
    if (!same_shape(entry.shape, shape) && !other_grid)
      misfits.shapes.push_back(concat(entry.name, " is ", io::to_string(shape), ", expected ", entry.shape));
    for (const io::TensorInfo& part : origin.parts)
      if (entry.buffer_dtype == DType::i64 ? !is_integer(part.dtype) : !converts_to_f32(part.dtype))
        misfits.types.push_back(concat(part.name, " is ", io::name(part.dtype)));
  }
  for (const auto& [name, origin] : inventory.origins)
    if (!expected.count(name) && (names.keep_head || !names.head.count(name))) misfits.unexpected.push_back(name);
  return misfits;
}

// ---- reading
// ---------------------------------------------------------------------------------------------------------

// Tensors whose values no training leaves behind. A network answers with a class even so: many an activation turns NaN
// into 0.
class Damage {
 public:
  void look_at(const std::string& name, const Tensor& values) {
    const bool variance = name.ends_with(".running_var");
    const float* begin = values.f32();
    const int64_t count = std::count_if(begin, begin + values.numel(), [&](float value) {
      return !std::isfinite(value) || (variance && value < 0);
    });
    if (count > 0)
      found_.push_back(concat(name, " (", count, " of ", values.numel(), variance ? ", a variance)" : ")"));
  }
  void fail_if_found(const std::string& source) const {
    if (found_.empty()) return;
    throw Error(ErrorKind::bad_model,
                concat(source, ": ", found_.size(), found_.size() == 1 ? " tensor holds" : " tensors hold",
                       " values that are NaN, infinite or a negative variance: ", first_few(found_),
                       "; the file is damaged, take another copy"),
                found_);
  }

 private:
  std::vector<std::string> found_;
};

void report_conversions(const std::map<std::string, Origin>& origins, LoadReport& report) {
  std::map<std::string, int64_t> counts;
  for (const auto& [name, origin] : origins)
    for (const io::TensorInfo& part : origin.parts)
      if (part.dtype == io::FileDType::f16 || part.dtype == io::FileDType::f64) ++counts[io::name(part.dtype)];
  for (const auto& [dtype, count] : counts) report.converted.push_back(concat(dtype, " to F32: ", count, " tensors"));
}

void read_values(const Model& model, const std::vector<Entry>& entries, const Names& names,
                 const PretrainedSource& source, const std::optional<Positions>& positions, LoadedModel& loaded) {
  Damage damage;
  const auto read = [&](const std::string& name, const Origin& origin, auto... layout) {
    Tensor values = source.read(origin, layout...);
    damage.look_at(name, values);
    return values;
  };
  for (const Entry& entry : entries) {
    const Origin* origin = source.find(entry.name);
    if (!origin || (!names.keep_head && names.head.count(entry.name))) {
      if (entry.parameter) loaded.report.random.push_back(entry.name);
      continue;
    }
    loaded.report.loaded.push_back(entry.name);
    if (entry.buffer_dtype == DType::i64) {
      *entry.buffer = source.read_counter(*origin).to(model.device);
    } else if (entry.buffer) {
      *entry.buffer = read(entry.name, *origin).to(model.device);
    } else if (positions && entry.name == "pos_embed" &&
               (!same_shape(entry.shape, origin->shape()) ||
                positions->grid != Grid{model.facts.preprocessing.height / positions->patch,
                                        model.facts.preprocessing.width / positions->patch})) {
      const Grid to{model.facts.preprocessing.height / positions->patch,
                    model.facts.preprocessing.width / positions->patch};
      const Tensor values = resample_position(read(entry.name, *origin), positions->prefix, positions->grid, to);
      entry.parameter->set_value(to_working(values, *entry.parameter, model.precision, model.device));
      loaded.report.resampled.push_back(concat(entry.name, ": ", positions->grid.height, " x ", positions->grid.width,
                                               " to ", to.height, " x ", to.width));
      loaded.changed.insert(entry.name);
    } else {
      entry.parameter->set_value(
          to_working(read(entry.name, *origin, entry.parameter->layout()), *entry.parameter, model.precision, model.device));
    }
  }
  damage.fail_if_found(source.file().path().string());
}

void note_changes(LoadReport& report) {
  for (const std::string& tensors : report.converted) report.notes.push_back("converted " + tensors);
  for (const std::string& grids : report.resampled) report.notes.push_back("resampled " + grids);
  if (!report.dropped.empty()) report.notes.push_back("left out of the file: " + first_few(report.dropped));
  if (!report.random.empty()) report.notes.push_back("begins with first values: " + first_few(report.random));
}

// ---- writing
// ---------------------------------------------------------------------------------------------------------

Tensor to_host(const Tensor& values) { return values.to(Device::cpu()); }

io::TensorToWrite copied(const Entry& entry, const PretrainedSource& source, const Origin& origin) {
  return {entry.name, origin.parts[0].dtype, origin.shape(), [&source, &origin](const io::ByteSink& sink) {
            for (const io::TensorInfo& part : origin.parts) source.file().read_pieces(part, sink);
          }};
}

std::vector<uint64_t> extents(const Shape& shape) { return {shape.dims().begin(), shape.dims().end()}; }

io::TensorToWrite written(const Entry& entry, DType dtype, std::function<Tensor()> values) {
  return {entry.name, io::file_dtype(dtype), extents(entry.shape),
          [values = std::move(values)](const io::ByteSink& sink) {
            const Tensor host = to_host(values());
            sink({static_cast<const std::byte*>(host.data()), host.bytes()});
          }};
}

io::TensorToWrite to_write(const LoadedModel& loaded, const Entry& entry) {
  const Origin* origin = loaded.source ? loaded.source->find(entry.name) : nullptr;
  if (entry.buffer) {
    if (origin && loaded.source->holds(entry.name, *entry.buffer)) return copied(entry, *loaded.source, *origin);
    return written(entry, entry.buffer_dtype, [&entry] { return *entry.buffer; });
  }
  const bool from_file = origin && origin->one_dtype() && same_shape(entry.shape, origin->shape());
  const bool random =
      std::find(loaded.report.random.begin(), loaded.report.random.end(), entry.name) != loaded.report.random.end();
  if (from_file && !random && !entry.adapters && !loaded.changed.count(entry.name))
    return copied(entry, *loaded.source, *origin);
  return written(entry, DType::f32, [&loaded, &entry] {
    Tensor values = master_values(loaded, entry.name, *entry.parameter);
    if (entry.adapters) values = merged_weight(loaded, entry.name, values, *entry.adapters);
    return to_file_layout(values, entry.parameter->layout());
  });
}

}  // namespace

LoadedModel load_model(std::string_view asked, const std::filesystem::path& weights, const LoadOptions& options) {
  io::WeightFile file(weights);
  const std::string path = weights.string();
  const Recognised recognised = recognise_or_fail(file);
  Inventory inventory = take_inventory(file, recognised);
  const Description said = read_description(file);
  const std::string name = choose_name(asked, said, file, inventory.origins);

  LoadReport report;
  report.dialect = models::name(recognised.dialect);
  report.notes = file.warnings();
  const Model usual = describe_model(name, {.classes = 1});
  if (usual.facts.family != recognised.family)
    fail(ErrorKind::bad_model, path, ": these are weights of the family ", recognised.family, ", ", name, " is of ",
         usual.facts.family, ". ", advise(inventory.origins));
  const std::optional<Positions> positions = read_positions(usual, said, inventory.origins, path);
  Names names;
  for (const Entry& entry : collect_head(usual).entries) names.head.insert(entry.name);
  const auto head = inventory.origins.find(usual.facts.classifier + ".weight");
  const auto file_classes = head == inventory.origins.end() || head->second.shape().empty()
                                ? 0
                                : static_cast<int64_t>(head->second.shape()[0]);
  const HeadChoice choice = choose_head(options, said, file_classes, path);
  names.keep_head = choice.keep;

  ModelOptions model_options = complete(options.model, said, recognised, positions, usual.facts.preprocessing, report.notes);
  model_options.classes = choice.classes;
  Model model = describe_model(name, model_options);
  check_constants(said, model.facts, path);
  apply(said, model.facts);
  model.facts.class_names = choice.names;

  const std::vector<Entry> entries = collect(model).entries;
  const Misfits misfits = compare(entries, names, inventory, positions.has_value());
  if (misfits.any()) misfits.fail(path, name, inventory.origins);
  for (const std::string& ignored : inventory.ignored) report.dropped.push_back(ignored);
  if (!choice.keep)
    for (const auto& [ours, origin] : inventory.origins)
      if (names.head.count(ours))
        for (const io::TensorInfo& part : origin.parts) report.dropped.emplace_back(part.name);
  if (model.facts.classes == 0)
    report.notes.push_back("the file has no classifier: the model's outputs are its features");
  report_conversions(inventory.origins, report);

  auto source = std::make_shared<PretrainedSource>(std::move(file), std::move(inventory.origins));
  LoadedModel loaded{model, std::move(report), source, options.model.seed, {}, {}};
  read_values(model, entries, names, *source, positions, loaded);
  model.initialise(options.model.seed);
  note_changes(loaded.report);
  return loaded;
}

LoadedModel scratch_model(std::string_view name, const LoadOptions& options) {
  ModelOptions model_options = options.model;
  if (!options.class_names.empty()) {
    const auto count = static_cast<int64_t>(options.class_names.size());
    VTL_CHECK(model_options.classes.value_or(count) == count, "scratch_model: ", *model_options.classes,
              " classes and ", count, " class names");
    model_options.classes = count;
  }
  LoadedModel made{create_model(name, model_options), {}, nullptr, model_options.seed, {}, {}};
  made.model.facts.class_names = options.class_names;
  made.model.facts.tag = "vtl";
  made.model.facts.licence.clear();
  for (const Entry& entry : collect(made.model).entries)
    if (entry.parameter) made.report.random.push_back(entry.name);
  return made;
}

Identified identify(const io::WeightFile& weights) {
  const auto recognised = recognise(names_of(weights));
  if (!recognised) return {};
  const Inventory inventory = take_inventory(weights, *recognised);
  Identified found{name(recognised->dialect), {}};
  if (!inventory.problems.empty()) return found;
  found.models = fitting_models(rank_models(inventory.origins));
  const Description said = read_description(weights);
  const auto named = std::find(found.models.begin(), found.models.end(), said.architecture.value_or(""));
  if (named != found.models.end()) std::rotate(found.models.begin(), named, named + 1);
  return found;
}

Tensor master_values(const LoadedModel& loaded, const std::string& name, const layers::Parameter& parameter) {
  if (parameter.master().defined()) return parameter.master();
  if (const auto kept = loaded.masters.find(name); kept != loaded.masters.end()) return kept->second;
  const bool random =
      std::find(loaded.report.random.begin(), loaded.report.random.end(), name) != loaded.report.random.end();
  const Origin* origin = loaded.source && !random ? loaded.source->find(name) : nullptr;
  const Tensor values = origin ? loaded.source->read(*origin, parameter.layout())
                               : loaded.model.first_value(name, parameter, loaded.seed);
  return values.to(loaded.model.device);
}

void set_learning(LoadedModel& loaded,
                  const std::function<bool(const std::string& name, const layers::Parameter&)>& wanted) {
  struct Setter : layers::Visitor {
    LoadedModel& loaded;
    const std::function<bool(const std::string&, const layers::Parameter&)>& wanted;

    Setter(LoadedModel& model, const std::function<bool(const std::string&, const layers::Parameter&)>& choice)
        : loaded(model), wanted(choice) {}

    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      const bool learn = wanted(name, parameter);
      if (learn == parameter.learns()) return;
      if (learn) {
        parameter.make_learn(master_values(loaded, name, parameter));
        loaded.changed.insert(name);
        loaded.masters.erase(name);
      } else {
        if (parameter.value().dtype() != DType::f32) loaded.masters[name] = parameter.master();
        parameter.freeze();
      }
    }
  };
  NoTapeScope no_tape;
  Setter setter(loaded, wanted);
  loaded.model.visit(setter);
}

std::string base_sha256(const LoadedModel& loaded) { return loaded.source ? loaded.source->sha256() : std::string(); }

void save_model(const LoadedModel& loaded, const std::filesystem::path& directory,
                const std::map<std::string, std::string>& extra) {
  NoTapeScope no_tape;
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) fail(ErrorKind::io, "save_model: cannot make the directory ", directory.string(), ": ", failed.message());
  const Collector all = collect(loaded.model);
  std::vector<io::TensorToWrite> tensors;
  for (const Entry& entry : all.entries) tensors.push_back(to_write(loaded, entry));
  ModelFacts facts = loaded.model.facts;
  const bool ours = !loaded.changed.empty() || !loaded.report.random.empty();
  const std::string base = facts.name + "." + facts.tag;
  if (ours) facts.tag = "vtl";
  std::map<std::string, std::string> about = metadata(facts);
  if (ours && is_known(base)) about["vtl.base"] = base;
  if (loaded.source) about["vtl.base_sha256"] = base_sha256(loaded);
  about.insert(extra.begin(), extra.end());
  io::write_safetensors(directory / "model.safetensors", std::move(tensors), std::move(about));
  io::write_text_file(directory / "config.json", config_json(facts, collect_head(loaded.model).linears));
}

}  // namespace vtl::models
