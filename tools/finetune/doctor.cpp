#include "vtl/tools/finetune/doctor.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "vtl/core/cpu.h"
#include "vtl/core/runtime.h"
#include "vtl/io/image.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {
namespace {

constexpr const char* kAbsent = "not in this build";

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

Diagnosis diagnose() {
  Diagnosis found;
  found.version = VTL_VERSION;
  found.backends["cpu"] = "available";
  found.backends["cuda"] = has_runtime(DeviceKind::cuda) ? "available" : kAbsent;
  found.cpu_name = cpu_name();
  found.cpu_level = name(cpu_level());
  found.cores = static_cast<int>(std::thread::hardware_concurrency());
  found.automatic_precision = name(resolve_precision({}));
  found.libraries["oneDNN"] = VTL_ONEDNN_VERSION;
  found.libraries["TurboJPEG"] = io::can_decode(io::ImageFormat::jpeg) ? "available" : kAbsent;
  found.libraries["libpng"] = io::can_decode(io::ImageFormat::png) ? "available" : kAbsent;
  found.libraries["stb_image"] = io::can_decode(io::ImageFormat::bmp) ? "available" : kAbsent;
  return found;
}

std::string to_json(const Diagnosis& d) {
  const nlohmann::ordered_json object{{"version", d.version},
                                      {"backends", d.backends},
                                      {"cpu", {{"name", d.cpu_name}, {"level", d.cpu_level}, {"cores", d.cores}, {"precision", d.automatic_precision}}},
                                      {"libraries", d.libraries}};
  return object.dump();
}

std::string models_json(const std::vector<models::ModelSummary>& models) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& model : models)
    list.push_back({{"name", model.name}, {"parameters", model.parameters}, {"input_size", model.input_size}, {"dialects", model.dialects}});
  return nlohmann::ordered_json{{"models", list}}.dump();
}

}  // namespace vtl::finetune
