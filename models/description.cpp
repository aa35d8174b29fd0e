#include "vtl/models/description.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "vtl/io/json.h"
#include "vtl/io/transform.h"
#include "vtl/models/registry.h"

namespace vtl::models {
namespace {

using io::json_get;
using nlohmann::json;

#ifndef VTL_VERSION
#define VTL_VERSION "unknown"
#endif

template <class T>
std::optional<T> member(const json& object, const std::string& key, const std::string& source) {
  if (!object.contains(key) || object.at(key).is_null()) return std::nullopt;
  return json_get<T>(object, key, source);
}

std::optional<std::array<float, 3>> three(const json& object, const std::string& key, const std::string& source) {
  const auto values = member<std::vector<double>>(object, key, source);
  if (!values) return std::nullopt;
  if (values->size() != 3)
    fail(ErrorKind::bad_model, source, ": \"", key, "\" has ", values->size(), " values, expected 3");
  return std::array<float, 3>{static_cast<float>((*values)[0]), static_cast<float>((*values)[1]),
                              static_cast<float>((*values)[2])};
}

std::optional<Interpolation> interpolation(const std::optional<std::string>& text, const std::string& source) {
  if (!text) return std::nullopt;
  if (*text == "bilinear") return Interpolation::bilinear;
  if (*text == "bicubic") return Interpolation::bicubic;
  fail(ErrorKind::bad_model, source, ": the interpolation '", *text, "' is not known, expected bilinear or bicubic");
}

std::optional<CropMode> crop_mode(const std::optional<std::string>& text, const std::string& source) {
  if (!text) return std::nullopt;
  for (const CropMode mode : {CropMode::center, CropMode::squash, CropMode::border})
    if (*text == name(mode)) return mode;
  fail(ErrorKind::bad_model, source, ": the crop mode '", *text, "' is not known, expected center, squash or border");
}

// [3, height, width]
void read_input_size(const json& object, const std::string& source, Description& said) {
  const auto size = member<std::vector<int64_t>>(object, "input_size", source);
  if (!size) return;
  if (size->size() != 3 || (*size)[0] != 3 || (*size)[1] < 1 || (*size)[2] < 1)
    fail(ErrorKind::bad_model, source, ": \"input_size\" is not [3, height, width]");
  said.height = (*size)[1];
  said.width = (*size)[2];
}

void read_preprocessing(const json& object, const std::string& source, Description& said) {
  read_input_size(object, source, said);
  said.crop_pct = member<double>(object, "crop_pct", source);
  if (said.crop_pct && !(*said.crop_pct >= io::kMinCropPct && *said.crop_pct <= io::kMaxCropPct))
    fail(ErrorKind::bad_model, source, ": \"crop_pct\" is ", *said.crop_pct, ", expected ", io::kMinCropPct, " to ",
         io::kMaxCropPct);
  said.crop_mode = crop_mode(member<std::string>(object, "crop_mode", source), source);
  said.interpolation = interpolation(member<std::string>(object, "interpolation", source), source);
  said.mean = three(object, "mean", source);
  said.std = three(object, "std", source);
}

// config.json of timm, with the preprocessing in "pretrained_cfg" or, in older files, beside the rest.
Description read_timm_config(const json& config, const std::string& source) {
  Description said;
  const json& cfg = config.contains("pretrained_cfg") ? config.at("pretrained_cfg") : config;
  if (!cfg.is_object()) fail(ErrorKind::bad_model, source, ": \"pretrained_cfg\" is not an object");
  said.architecture = member<std::string>(config, "architecture", source);
  said.tag = member<std::string>(cfg, "tag", source);
  said.licence = member<std::string>(cfg, "license", source);
  said.classes = member<int64_t>(config, "num_classes", source);
  said.pool = member<std::string>(config, "global_pool", source);
  if (config.contains("label_names") && config.at("label_names").is_array())
    said.class_names = json_get<std::vector<std::string>>(config, "label_names", source);
  read_preprocessing(cfg, source, said);
  return said;
}

std::string activation_of(const std::string& hidden_act) {
  if (hidden_act == "gelu_new" || hidden_act == "gelu_pytorch_tanh" || hidden_act == "gelu_fast") return "gelu_tanh";
  if (hidden_act == "quick_gelu") return "gelu_quick";
  return hidden_act;
}

// "LABEL_0", "LABEL_1", ... stand for names that nobody gave.
bool is_placeholder(const std::string& label) { return label.starts_with("LABEL_"); }

Description read_huggingface_config(const json& config, const std::string& source) {
  Description said;
  said.norm_eps = member<double>(config, "layer_norm_eps", source);
  if (const auto act = member<std::string>(config, "hidden_act", source)) said.activation = activation_of(*act);
  if (!config.contains("id2label")) return said;
  const json& labels = config.at("id2label");
  if (!labels.is_object()) fail(ErrorKind::bad_model, source, ": \"id2label\" is not an object");
  for (size_t i = 0; i < labels.size(); ++i)
    said.class_names.push_back(json_get<std::string>(labels, std::to_string(i), source));
  if (std::all_of(said.class_names.begin(), said.class_names.end(), is_placeholder)) said.class_names.clear();
  return said;
}

// Images are resized to the very size; nothing is cropped away.
void read_huggingface_preprocessor(const json& config, const std::string& source, Description& said) {
  said.mean = three(config, "image_mean", source);
  said.std = three(config, "image_std", source);
  if (const auto resample = member<int64_t>(config, "resample", source))
    said.interpolation = *resample == 3 ? Interpolation::bicubic : Interpolation::bilinear;
  if (const auto crop = member<double>(config, "crop_pct", source)) {
    said.crop_pct = crop;
    return;
  }
  if (member<bool>(config, "do_center_crop", source).value_or(false)) return;
  said.crop_pct = 1.0;
  said.crop_mode = CropMode::squash;
}

const std::string* find(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

std::optional<std::string> text(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const std::string* value = find(metadata, key);
  return value ? std::optional<std::string>(*value) : std::nullopt;
}

Description read_metadata(const io::WeightFile& weights) {
  const auto& metadata = weights.metadata();
  const std::string source = weights.path().string();
  Description said;
  said.architecture = text(metadata, "vtl.architecture");
  said.tag = text(metadata, "vtl.tag");
  said.licence = text(metadata, "vtl.licence");
  said.activation = text(metadata, "vtl.activation");
  said.padding = text(metadata, "vtl.padding");
  said.pool = text(metadata, "vtl.pool");
  if (const std::string* eps = find(metadata, "vtl.norm_eps"))
    said.norm_eps = json_get<double>({{"vtl.norm_eps", io::parse_json(*eps, source)}}, "vtl.norm_eps", source);
  if (const std::string* labels = find(metadata, "vtl.labels"))
    said.class_names =
        json_get<std::vector<std::string>>({{"vtl.labels", io::parse_json(*labels, source)}}, "vtl.labels", source);
  if (const std::string* preprocessing = find(metadata, "vtl.preprocessing"))
    read_preprocessing(io::parse_json(*preprocessing, source), source + ": vtl.preprocessing", said);
  return said;
}

Description read_config(const io::WeightFile& weights) {
  if (!weights.config()) return {};
  const std::string source = (weights.path() / "config.json").string();
  const json config = io::parse_json(*weights.config(), source);
  if (!config.is_object()) fail(ErrorKind::bad_model, source, ": not a JSON object");
  if (!config.contains("model_type")) return read_timm_config(config, source);
  Description said = read_huggingface_config(config, source);
  const std::filesystem::path preprocessor = weights.path() / "preprocessor_config.json";
  if (std::filesystem::is_regular_file(preprocessor))
    read_huggingface_preprocessor(io::read_json_file(preprocessor), preprocessor.string(), said);
  return said;
}

template <class T>
std::string show(const T& value) {
  return concat(value);
}
std::string show(CropMode mode) { return name(mode); }
std::string show(Interpolation filter) { return name(filter); }
std::string show(const std::array<float, 3>& v) { return concat("[", v[0], ", ", v[1], ", ", v[2], "]"); }

// What both places say of one fact, which must agree.
class Merge {
 public:
  explicit Merge(const io::WeightFile& weights) : weights_(weights) {}

  template <class T>
  std::optional<T> operator()(const char* fact, const std::optional<T>& config, const std::optional<T>& metadata) {
    if (config && metadata && *config != *metadata)
      problems_.push_back(
          concat(fact, ": config.json says ", show(*config), ", the weights' metadata ", show(*metadata)));
    return metadata ? metadata : config;
  }
  std::vector<std::string> names(const std::vector<std::string>& config, const std::vector<std::string>& metadata) {
    if (!config.empty() && !metadata.empty() && config != metadata)
      problems_.push_back("class names: config.json and the weights' metadata list different ones");
    return metadata.empty() ? config : metadata;
  }
  void finish() {
    if (problems_.empty()) return;
    std::string message = weights_.path().string() + ": two files of one model contradict each other: ";
    for (size_t i = 0; i < problems_.size() && i < 5; ++i) message += (i > 0 ? "; " : "") + problems_[i];
    throw Error(ErrorKind::bad_model, message + "; remove or correct the wrong one", problems_);
  }

 private:
  const io::WeightFile& weights_;
  std::vector<std::string> problems_;
};

json preprocessing_json(const Preprocessing& p) {
  const auto rounded = [](float v) { return std::round(static_cast<double>(v) * 1e8) / 1e8; };
  const auto list = [&](const std::array<float, 3>& v) { return json{rounded(v[0]), rounded(v[1]), rounded(v[2])}; };
  return {{"input_size", {3, p.height, p.width}},
          {"interpolation", name(p.interpolation)},
          {"crop_pct", p.crop_pct},
          {"crop_mode", name(p.crop_mode)},
          {"mean", list(p.mean)},
          {"std", list(p.std)}};
}

}  // namespace

Description read_description(const io::WeightFile& weights) {
  const Description config = read_config(weights), metadata = read_metadata(weights);
  Merge merge(weights);
  Description said;
  said.architecture = merge("architecture", config.architecture, metadata.architecture);
  said.tag = merge("tag", config.tag, metadata.tag);
  said.licence = merge("licence", config.licence, metadata.licence);
  said.activation = merge("activation", config.activation, metadata.activation);
  said.padding = merge("padding", config.padding, metadata.padding);
  said.pool = merge("pooling", config.pool, metadata.pool);
  said.classes = merge("classes", config.classes, metadata.classes);
  said.norm_eps = merge("norm eps", config.norm_eps, metadata.norm_eps);
  said.class_names = merge.names(config.class_names, metadata.class_names);
  said.height = merge("input height", config.height, metadata.height);
  said.width = merge("input width", config.width, metadata.width);
  said.crop_pct = merge("crop_pct", config.crop_pct, metadata.crop_pct);
  said.crop_mode = merge("crop mode", config.crop_mode, metadata.crop_mode);
  said.interpolation = merge("interpolation", config.interpolation, metadata.interpolation);
  said.mean = merge("mean", config.mean, metadata.mean);
  said.std = merge("std", config.std, metadata.std);
  merge.finish();
  return said;
}

void apply(const Description& said, ModelFacts& facts) {
  facts.tag = said.tag.value_or(facts.tag);
  facts.licence = said.licence.value_or(facts.licence);
  Preprocessing& p = facts.preprocessing;
  p.crop_pct = said.crop_pct.value_or(p.crop_pct);
  p.crop_mode = said.crop_mode.value_or(p.crop_mode);
  p.interpolation = said.interpolation.value_or(p.interpolation);
  p.mean = said.mean.value_or(p.mean);
  p.std = said.std.value_or(p.std);
}

std::string config_json(const ModelFacts& facts, const std::vector<std::string>& classifiers) {
  const ModelFacts plain = describe_model(facts.name).facts;
  json args = json::object();
  if (facts.family == "vit") {
    const Preprocessing &own = facts.preprocessing, &usual = plain.preprocessing;
    if (own.height != usual.height || own.width != usual.width) args["img_size"] = {own.height, own.width};
    if (facts.constants.pool != plain.constants.pool) args["global_pool"] = facts.constants.pool;
  }
  json cfg = preprocessing_json(facts.preprocessing);
  cfg["tag"] = facts.tag;
  cfg["custom_load"] = false;
  cfg["fixed_input_size"] = facts.family == "vit";
  cfg["num_classes"] = facts.classes;
  if (facts.family != "vit")
    cfg["pool_size"] = {(facts.preprocessing.height + 31) / 32, (facts.preprocessing.width + 31) / 32};
  cfg["first_conv"] = facts.first_conv;
  if (classifiers.size() > 1)
    cfg["classifier"] = classifiers;
  else
    cfg["classifier"] = facts.classifier;
  if (!facts.licence.empty()) cfg["license"] = facts.licence;
  json config{{"architecture", facts.name},
              {"num_classes", facts.classes},
              {"num_features", facts.features / static_cast<int64_t>(std::max<size_t>(1, classifiers.size()))},
              {"global_pool", facts.constants.pool},
              {"pretrained_cfg", cfg}};
  if (!facts.class_names.empty()) config["label_names"] = facts.class_names;
  if (!args.empty()) config["model_args"] = args;
  return config.dump(2) + "\n";
}

std::map<std::string, std::string> metadata(const ModelFacts& facts) {
  std::map<std::string, std::string> made{{"format", "pt"},
                                          {"vtl.version", VTL_VERSION},
                                          {"vtl.architecture", facts.name},
                                          {"vtl.tag", facts.tag},
                                          {"vtl.activation", facts.constants.activation},
                                          {"vtl.padding", facts.constants.padding},
                                          {"vtl.pool", facts.constants.pool},
                                          {"vtl.norm_eps", json(facts.constants.norm_eps).dump()},
                                          {"vtl.preprocessing", preprocessing_json(facts.preprocessing).dump()}};
  if (!facts.licence.empty()) made["vtl.licence"] = facts.licence;
  if (!facts.class_names.empty()) made["vtl.labels"] = json(facts.class_names).dump();
  return made;
}

}  // namespace vtl::models
