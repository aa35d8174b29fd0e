// Times training steps or inference of a whole model on synthetic images and prints one JSON line: what bench/peers compares.
//   vtl_step_bench --model resnet18 --mode train --precision bf16 --batch 16 --threads 2 --steps 8 [--size 224] [--lora RANK] [--device cuda]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "vtl/core/allocator.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/copy/copy.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/models/lora.h"
#include "vtl/models/pretrained.h"
#include "vtl/optim/optimizer.h"
#include "vtl/tools/finetune/memory.h"

namespace {

using namespace vtl;

constexpr int64_t kClasses = 10;
constexpr int kWarmUp = 3;

struct Work {
  std::string model, mode = "train", precision = "fp32";
  int64_t batch = 16, size = 224, lora = 0;
  int threads = 2, steps = 8;
  std::string device = "cpu";

  Device place() const {
    return device == "cuda" ? Device::cuda() : device == "simt" ? Device::simt() : Device::cpu();
  }
};

Tensor synthetic_images(const Work& work, Precision precision) {
  const Shape shape{work.batch, work.size, work.size, 3};
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  RandomSequence random(0, RandomStream::demo, 0, 0);
  for (float& v : values) v = random.normal();
  const Tensor images = Tensor::from(std::span<const float>(values), shape, work.place());
  if (precision == Precision::fp32) return images;
  const Tensor narrow = Tensor::empty(shape, DType::bf16, images.device());
  kernels::cast(stream(), DType::f32, images.data(), DType::bf16, narrow.data(), shape.numel());
  return narrow;
}

Tensor synthetic_labels(int64_t batch) {
  std::vector<int64_t> labels(static_cast<size_t>(batch));
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i) % kClasses;
  return Tensor::from(std::span<const int64_t>(labels), {batch});
}

// Everything that learns, in one group at one rate.
struct Collect : layers::Visitor {
  optim::Group group{"all", 1e-4, 0.05, 1, {}};
  bool freeze_batchnorm = false;
  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    if (parameter.learns()) group.members.push_back({name, &parameter, 0});
  }
  void on_batchnorm(const std::string&, layers::BatchNorm& norm) override { norm.frozen = freeze_batchnorm; }
};

std::vector<double> seconds(const std::function<void()>& step, int steps) {
  for (int i = 0; i < kWarmUp; ++i) step();
  stream().synchronize();
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    step();
    stream().synchronize();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return times;
}

std::vector<double> run(const Work& work) {
  set_compute_threads(work.threads);
  Stream on(work.place());
  const StreamScope scope(on);
  models::LoadOptions options;
  options.model.classes = kClasses;
  options.model.height = options.model.width = work.size;
  options.model.precision = work.precision == "bf16" ? Precision::bf16 : Precision::fp32;
  options.model.device = work.place();
  models::LoadedModel loaded = models::scratch_model(work.model, options);
  const Tensor images = synthetic_images(work, options.model.precision);
  if (work.mode == "infer") return seconds([&] { loaded.model.forward(images); }, work.steps);

  const Tensor labels = synthetic_labels(work.batch).to(work.place());
  if (work.lora > 0) models::attach_lora(loaded, {.rank = work.lora, .alpha = static_cast<double>(work.lora), .targets = {}, .seed = 0});
  const std::string head = loaded.model.facts.classifier + ".";
  models::set_learning(loaded, [&](const std::string& name, const layers::Parameter&) {
    return work.lora == 0 || models::is_adapter_name(name) || name.starts_with(head);
  });
  Collect collected;
  collected.freeze_batchnorm = work.lora > 0;
  loaded.model.visit(collected);
  optim::Optimizer optimizer({.kind = optim::OptimizerKind::adamw, .adamw = {}, .momentum = 0, .clip_norm = 0}, {collected.group},
                             work.place(), 0);
  const TrainingScope training;
  const StepScope state(optimizer.state());
  return seconds(
      [&] {
        optimizer.zero_grad();
        Tape tape;
        const TapeScope scope(tape);
        tape.backward(layers::softmax_xent(loaded.model.forward(images), labels));
        optimizer.step(1.0);
      },
      work.steps);
}

}  // namespace

int main(int argc, char** argv) {
  Work work;
  CLI::App app("Times training steps or inference of a model.");
  app.add_option("--model", work.model)->required();
  app.add_option("--mode", work.mode)->check(CLI::IsMember({"train", "infer"}));
  app.add_option("--precision", work.precision)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--batch", work.batch)->check(CLI::Range(int64_t{1}, int64_t{4096}));
  app.add_option("--size", work.size)->check(CLI::Range(int64_t{16}, int64_t{2048}));
  app.add_option("--threads", work.threads)->check(CLI::Range(1, 1024));
  app.add_option("--steps", work.steps)->check(CLI::Range(1, 100000));
  app.add_option("--lora", work.lora)->check(CLI::Range(int64_t{0}, int64_t{1024}));
  app.add_option("--device", work.device)->check(CLI::IsMember({"cpu", "cuda", "simt"}));
  CLI11_PARSE(app, argc, argv);
  try {
    const std::vector<double> times = run(work);
    const bool on_cpu = work.place().kind == DeviceKind::cpu;
    const size_t memory = on_cpu ? finetune::peak_resident_memory_bytes() : memory_stats(work.place()).reserved_bytes;
    const auto rate = [&](double share) {
      return static_cast<double>(work.batch) / times[static_cast<size_t>(share * static_cast<double>(times.size() - 1) + 0.5)];
    };
    std::cout << nlohmann::ordered_json{{"engine", "vtl " VTL_VERSION},
                                        {"model", work.model},
                                        {"mode", work.mode},
                                        {"precision", work.precision},
                                        {"layout", "nhwc"},
                                        {"batch", work.batch},
                                        {"lora", work.lora},
                                        {"threads", work.threads},
                                        {"steps", work.steps},
                                        {"images_per_second", rate(0.5)},
                                        {"p10", rate(0.9)},
                                        {"p90", rate(0.1)},
                                        {"device", work.device},
                                        {"peak_memory_mib", static_cast<double>(memory) / (1 << 20)}}
                     .dump()
              << '\n';
  } catch (const std::exception& error) {
    std::cerr << "vtl_step_bench: " << error.what() << '\n';
    return 1;
  }
}
