#include "vtl/tools/finetune/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace vtl::finetune {
namespace {

// Ordered: a reader finds the fields where the contract lists them.
using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // file names need not be UTF-8
}

// JSON has no infinity and no NaN.
Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// Nine significant digits: all that f32 has.
Json nine_digits(double value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return std::stod(text);
}

Json metrics(const Metrics& m) {
  Json per_class = Json::array();
  for (const ClassMetrics& c : m.per_class)
    per_class.push_back({{"class", c.name},
                         {"precision", c.precision},
                         {"recall", c.recall},
                         {"f1", c.f1},
                         {"support", c.support},
                         {"auc", c.auc ? Json(*c.auc) : Json(nullptr)}});
  return {{"images", m.images},
          {"loss", finite(m.loss)},
          {"accuracy", m.accuracy},
          {"top5", m.top5},
          {"macro_f1", m.macro_f1},
          {"auc", m.auc ? Json(*m.auc) : Json(nullptr)},
          {"per_class", std::move(per_class)},
          {"confusion", m.confusion}};
}

Json bad_files(const std::vector<BadFile>& files) {
  Json list = Json::array();
  for (const BadFile& file : files) list.push_back({{"path", file.path}, {"reason", file.reason}});
  return list;
}

Json phases(const Plan& plan) {
  Json list = Json::array();
  for (const PlanPhase& phase : plan.phases) {
    Json groups = Json::array();
    for (const PlanGroup& g : phase.groups)
      groups.push_back({{"name", g.name},
                        {"lr", g.learning_rate},
                        {"lowest_lr", g.lowest_rate},
                        {"weight_decay", g.weight_decay},
                        {"tensors", g.tensors},
                        {"parameters", g.parameters}});
    list.push_back({{"name", phase.name},
                    {"epochs", phase.epochs},
                    {"steps", phase.steps},
                    {"batchnorm", phase.batchnorm},
                    {"cached", phase.cached},
                    {"trainable_parameters", phase.trainable_parameters},
                    {"groups", std::move(groups)}});
  }
  return list;
}

struct EventJson {
  Json operator()(const Plan& p) const {
    return {{"event", "plan"},
            {"model", p.model},
            {"tag", p.tag},
            {"strategy", p.strategy},
            {"precision", p.precision},
            {"device", p.device},
            {"optimizer", p.optimizer},
            {"schedule", p.schedule},
            {"augment", p.augment},
            {"classes", p.classes},
            {"class_counts", p.class_counts},
            {"train_images", p.train_images},
            {"val_images", p.val_images},
            {"input_size", {p.height, p.width}},
            {"batch_size", p.batch_size},
            {"accumulate", p.accumulate},
            {"epochs", p.epochs},
            {"steps", p.steps},
            {"warmup_steps", p.warmup_steps},
            {"threads", p.threads},
            {"workers", p.workers},
            {"phases", phases(p)},
            {"trainable_parameters", p.trainable_parameters},
            {"total_parameters", p.total_parameters},
            {"estimated_memory_bytes", p.estimated_memory_bytes},
            {"monitor", p.monitor},
            {"notes", p.notes}};
  }
  Json operator()(const BadFile& b) const { return {{"event", "bad_file"}, {"path", b.path}, {"reason", b.reason}}; }
  Json operator()(const Note& n) const { return {{"event", "note"}, {"text", n.text}}; }
  Json operator()(const PhaseEvent& p) const {
    return {
        {"event", "unfreeze"}, {"phase", p.name}, {"epoch", p.epoch}, {"trainable_parameters", p.trainable_parameters}};
  }
  Json operator()(const StepEvent& s) const {
    Json rates = Json::object();
    for (const auto& [group, rate] : s.rates) rates[group] = rate;
    Json json = {{"event", "step"},
                 {"epoch", s.epoch},
                 {"step", s.step},
                 {"loss", nine_digits(s.loss)},
                 {"lr", std::move(rates)},
                 {"grad_norm", finite(s.grad_norm)},
                 {"images_per_second", finite(s.images_per_second)}};
    if (s.skipped) json["skipped"] = true;
    return json;
  }
  Json operator()(const EpochEvent& e) const {
    return {{"event", "epoch"},
            {"epoch", e.epoch},
            {"train_loss", finite(e.train_loss)},
            {"train_accuracy", e.train_accuracy},
            {"val_loss", finite(e.validation.loss)},
            {"val_accuracy", e.validation.accuracy},
            {"macro_f1", e.validation.macro_f1},
            {"seconds", e.seconds}};
  }
  Json operator()(const StopEvent& s) const {
    return {{"event", "stop"}, {"reason", name(s.reason)}, {"epoch", s.epoch}, {"step", s.step}};
  }
};

const char* text(models::HeadPolicy policy) {
  switch (policy) {
    case models::HeadPolicy::automatic:
      return "auto";
    case models::HeadPolicy::keep:
      return "keep";
    case models::HeadPolicy::fresh:
      return "new";
  }
  return "auto";
}

}  // namespace

std::string to_json(const Event& event) { return dump(std::visit(EventJson(), event)); }

std::string to_json(const TrainResult& result) {
  Json json = {{"model", result.plan.model},      {"strategy", result.plan.strategy},
               {"best_epoch", result.best_epoch}, {"stop", name(result.stop)},
               {"steps", result.steps},           {"metrics", metrics(result.best)}};
  if (result.test) json["test"] = metrics(*result.test);
  json["trainable_parameters"] = result.plan.trainable_parameters;
  json["total_parameters"] = result.plan.total_parameters;
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = result.peak_memory_bytes;
  json["classes"] = result.plan.classes;
  json["bad_files"] = bad_files(result.bad_files);
  return dump(json);
}

std::string to_json(const Evaluation& evaluation) {
  Json json = metrics(evaluation.metrics);
  json["bad_files"] = bad_files(evaluation.bad_files);
  json["trained_on"] = evaluation.trained_on;
  json["seconds"] = evaluation.seconds;
  return dump(json);
}

std::string to_json(const Metrics& m) { return dump(metrics(m)); }

Metrics metrics_from_json(const std::string& text) {
  const Json json = Json::parse(text);
  const auto number = [](const Json& value) { return value.is_null() ? std::nan("") : value.get<double>(); };
  const auto optional = [](const Json& value) {
    return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
  };
  Metrics m;
  json.at("images").get_to(m.images);
  m.loss = number(json.at("loss"));
  json.at("accuracy").get_to(m.accuracy);
  json.at("top5").get_to(m.top5);
  json.at("macro_f1").get_to(m.macro_f1);
  m.auc = optional(json.at("auc"));
  for (const Json& c : json.at("per_class"))
    m.per_class.push_back({c.at("class").get<std::string>(), c.at("precision").get<double>(),
                           c.at("recall").get<double>(), c.at("f1").get<double>(), c.at("support").get<int64_t>(),
                           optional(c.at("auc"))});
  json.at("confusion").get_to(m.confusion);
  return m;
}

std::string to_json(const models::ModelFacts& model, const std::vector<Prediction>& predictions,
                    PredictionJson options) {
  Json list = Json::array();
  for (const Prediction& p : predictions) {
    if (!p.error.empty()) {
      list.push_back({{"path", p.path}, {"error", p.error}});
      continue;
    }
    Json top = Json::array();
    for (const Ranked& r : p.top) top.push_back({{"label", r.label}, {"probability", r.probability}});
    Json entry = {{"path", p.path},
                  {"label", p.top.front().label},
                  {"index", p.top.front().index},
                  {"probability", p.top.front().probability},
                  {"top", std::move(top)}};
    if (options.logits) {
      Json logits = Json::array();
      for (const float value : p.logits) logits.push_back(nine_digits(value));
      entry["logits"] = std::move(logits);
    }
    list.push_back(std::move(entry));
  }
  return dump({{"model", model.name}, {"classes", model.class_names}, {"predictions", std::move(list)}});
}

std::string to_json(const Error& error) {
  return dump({{"error", {{"kind", name(error.kind())}, {"message", error.what()}, {"problems", error.problems()}}}});
}

std::string options_json(const TrainOptions& o) {
  const LearningRates rates = learning_rates(o);
  Json json = {{"data", o.data.string()},
               {"model", o.model.model},
               {"weights", o.model.weights.string()},
               {"head", text(o.model.head)},
               {"device", to_string(o.run.device)},
               {"precision", name(resolve_precision(o.run))},
               {"threads", o.run.threads},
               {"workers", o.run.workers},
               {"batch_size", o.run.batch_size},
               {"input_size", o.run.input_size ? Json(*o.run.input_size) : Json(nullptr)},
               {"crop_pct", o.run.crop_pct ? Json(*o.run.crop_pct) : Json(nullptr)},
               {"strategy", name(o.strategy)},
               {"unfreeze", o.unfreeze},
               {"rank", o.rank},
               {"alpha", o.alpha.value_or(static_cast<double>(o.rank))},
               {"targets", o.targets},
               {"epochs", o.epochs.value_or(default_epochs(o.strategy))},
               {"max_steps", o.max_steps ? Json(*o.max_steps) : Json(nullptr)},
               {"accumulate", o.accumulate},
               {"optimizer", name(o.optimizer)},
               {"momentum", o.momentum},
               {"weight_decay", o.weight_decay},
               {"head_lr", rates.head},
               {"backbone_lr", rates.backbone},
               {"layer_decay", o.layer_decay},
               {"schedule", name(o.schedule)},
               {"warmup",
                o.warmup.unit == optim::Warmup::Unit::percent ? concat(o.warmup.amount, "%") : concat(o.warmup.amount)},
               {"clip", o.clip},
               {"batchnorm", name(o.batchnorm)},
               {"label_smoothing", o.label_smoothing},
               {"augment", io::name(o.augment)},
               {"dropout", o.dropout},
               {"drop_path", o.drop_path},
               {"early_stop", o.early_stop},
               {"shuffle", o.shuffle},
               {"seed", o.seed},
               {"val_split", o.val_split},
               {"max_bad", o.max_bad},
               {"out", o.out.string()}};
  return dump(json);
}

}  // namespace vtl::finetune
