#include "vtl/tools/finetune/checkpoint.h"

#include <nlohmann/json.hpp>

#include "vtl/core/error.h"
#include "vtl/io/json.h"
#include "vtl/io/safetensors.h"
#include "vtl/io/safetensors_writer.h"
#include "vtl/tools/finetune/json.h"

namespace vtl::finetune {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kStateKey = "vtl.run_state";

// ---- counters ------------------------------------------------------------------------------------------------------

Json json_of(const RunPosition& p) {
  return {{"phase", p.phase},           {"epoch", p.epoch},
          {"phase_step", p.phase_step}, {"batch", p.batch},
          {"loss_sum", p.loss_sum},     {"images", p.images},
          {"right", p.right},           {"without_improvement", p.without_improvement},
          {"steps", p.steps},           {"bad_steps", p.bad_steps}};
}

RunPosition position_of(const Json& json) {
  RunPosition p;
  json.at("phase").get_to(p.phase);
  json.at("epoch").get_to(p.epoch);
  json.at("phase_step").get_to(p.phase_step);
  json.at("batch").get_to(p.batch);
  json.at("loss_sum").get_to(p.loss_sum);
  json.at("images").get_to(p.images);
  json.at("right").get_to(p.right);
  json.at("without_improvement").get_to(p.without_improvement);
  json.at("steps").get_to(p.steps);
  json.at("bad_steps").get_to(p.bad_steps);
  for (const int64_t count :
       {p.phase, p.epoch, p.phase_step, p.batch, p.images, p.right, p.without_improvement, p.steps, p.bad_steps})
    if (count < 0) fail(ErrorKind::bad_model, "checkpoint: a counter is ", count);
  return p;
}

Json json_of(const EpochEvent& e) {
  Metrics scalars = e.validation;
  scalars.per_class.clear();
  scalars.confusion.clear();
  return {{"epoch", e.epoch},
          {"epochs", e.epochs},
          {"train_loss", e.train_loss},
          {"train_accuracy", e.train_accuracy},
          {"validation", Json::parse(to_json(scalars))},
          {"seconds", e.seconds},
          {"best", e.best}};
}

EpochEvent epoch_of(const Json& json) {
  EpochEvent e;
  json.at("epoch").get_to(e.epoch);
  json.at("epochs").get_to(e.epochs);
  json.at("train_loss").get_to(e.train_loss);
  json.at("train_accuracy").get_to(e.train_accuracy);
  e.validation = metrics_from_json(json.at("validation").dump());
  json.at("seconds").get_to(e.seconds);
  json.at("best").get_to(e.best);
  return e;
}

std::string state_text(const Checkpoint& c) {
  Json history = Json::array();
  for (const EpochEvent& epoch : c.history) history.push_back(json_of(epoch));
  return Json{{"version", 1},
              {"position", json_of(c.position)},
              {"best_epoch", c.best_epoch},
              {"best", Json::parse(to_json(c.best))},
              {"history", std::move(history)},
              {"events_bytes", c.events_bytes},
              {"table_bytes", c.table_bytes}}
      .dump();
}

void read_state(const std::string& text, Checkpoint& c) {
  const Json json = Json::parse(text);
  c.position = position_of(json.at("position"));
  json.at("best_epoch").get_to(c.best_epoch);
  c.best = metrics_from_json(json.at("best").dump());
  for (const Json& epoch : json.at("history")) c.history.push_back(epoch_of(epoch));
  json.at("events_bytes").get_to(c.events_bytes);
  json.at("table_bytes").get_to(c.table_bytes);
}

// ---- tensors -------------------------------------------------------------------------------------------------------

struct Part {
  const char* prefix;
  NamedTensors Checkpoint::*tensors;
};
constexpr Part kParts[] = {
    {"model/", &Checkpoint::model}, {"best/", &Checkpoint::best_model}, {"optimizer/", &Checkpoint::optimizer}};

std::vector<uint64_t> file_shape(const Shape& shape) { return {shape.dims().begin(), shape.dims().end()}; }

io::TensorToWrite to_write(const std::string& name, const Tensor& tensor) {
  VTL_CHECK(tensor.dtype() == DType::f32 || tensor.dtype() == DType::i64, "checkpoint: ", name, " holds ",
            vtl::name(tensor.dtype()));
  const Tensor host = tensor.to(Device::cpu());
  const auto dtype = tensor.dtype() == DType::f32 ? io::FileDType::f32 : io::FileDType::i64;
  return {name, dtype, file_shape(tensor.shape()), [host](const io::ByteSink& sink) {
            sink({static_cast<const std::byte*>(host.data()), host.bytes()});
          }};
}

Tensor read_tensor(const io::SafetensorsFile& file, const io::TensorInfo& info) {
  if (info.dtype != io::FileDType::f32 && info.dtype != io::FileDType::i64)
    fail(ErrorKind::bad_model, file.path().string(), ": ", info.name, " is neither F32 nor I64");
  const std::vector<int64_t> dims(info.shape.begin(), info.shape.end());
  const Tensor tensor =
      Tensor::empty(Shape(std::span(dims)), info.dtype == io::FileDType::f32 ? DType::f32 : DType::i64, Device::cpu());
  file.read_raw(info, {static_cast<std::byte*>(tensor.data()), tensor.bytes()});
  return tensor;
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  std::vector<io::TensorToWrite> tensors;
  for (const Part& part : kParts)
    for (const auto& [name, tensor] : checkpoint.*part.tensors) tensors.push_back(to_write(part.prefix + name, tensor));
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) fail(ErrorKind::io, path.parent_path().string(), ": cannot be made: ", error.message());
  io::write_safetensors(path, std::move(tensors), {{"format", "pt"}, {kStateKey, state_text(checkpoint)}});
}

bool is_checkpoint(const io::WeightFile& file) { return file.metadata(kStateKey).has_value(); }

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  const auto state = file.metadata(kStateKey);
  if (!state) fail(ErrorKind::bad_model, path.string(), ": is not a checkpoint of vtl-finetune");
  Checkpoint checkpoint;
  try {
    read_state(std::string(*state), checkpoint);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_model, path.string(), ": the state of the run cannot be read: ", error.what());
  }
  for (int64_t i = 0; i < file.size(); ++i) {
    const std::string name(file.name(i));
    const Part* part = nullptr;
    for (const Part& candidate : kParts)
      if (name.starts_with(candidate.prefix)) part = &candidate;
    if (!part) fail(ErrorKind::bad_model, path.string(), ": holds the tensor ", name, ", which no checkpoint has");
    (checkpoint.*part->tensors).emplace_back(name.substr(std::string(part->prefix).size()), read_tensor(file, file[i]));
  }
  return checkpoint;
}

}  // namespace vtl::finetune
