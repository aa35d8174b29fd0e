#include "vtl/tools/finetune/demo.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "vtl/core/error.h"
#include "vtl/tools/finetune/demo_images.h"
#include "vtl/tools/finetune/scopes.h"
#include "vtl/tools/finetune/trainer.h"

namespace vtl::finetune {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResNet = "resnet18";
constexpr const char* kVit = "vit_tiny_patch16_224";

// A transformer that begins from nothing needs a lower rate than the strategy's, which suits convolutions.
constexpr double kVitScratchRate = 4e-4;

// The target has few pictures: small batches make more steps of them.
constexpr int64_t kTargetBatch = 16;

// The user's backbone has seen larger pictures than the demonstration draws, and is larger itself: of its input sizes
// one that all patch sizes divide and two cores manage.
constexpr int64_t kOwnInputSize = 224;

void check(const DemoOptions& options) {
  VTL_CHECK(options.backbone.model.empty() == options.backbone.weights.empty(),
            options.backbone.model.empty() ? "--model" : "--weights",
            ": missing; an own backbone in the demonstration takes --model NAME and --weights FILE together");
  std::error_code error;
  if (fs::exists(options.out, error) && !fs::is_empty(options.out, error))
    fail(ErrorKind::bad_argument, "--out: ", options.out.string(),
         " is not empty; name another folder or remove this one");
}

class Demo {
 public:
  Demo(const DemoOptions& options, const DemoCallbacks& callbacks) : options_(options), callbacks_(callbacks) {
    result_.target = options.out / "target";
    if (options.backbone.weights.empty()) result_.source = options.out / "source";
  }

  DemoResult operator()() {
    const auto begin = std::chrono::steady_clock::now();
    draw();
    if (result_.source.empty()) {
      use({options_.backbone.model, options_.backbone.weights, 0, std::nullopt});
    } else {
      pretrain_and_use(kResNet, options_.work.resnet_epochs);
      pretrain_and_use(kVit, options_.work.vit_epochs);
    }
    result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return std::move(result_);
  }

 private:
  void tell(const std::string& what) const {
    if (callbacks_.on_stage) callbacks_.on_stage(what);
  }

  // Training and validation pictures have indices of their own, so that none is in both.
  void draw(const fs::path& folder, DemoTask task, int64_t train, int64_t val) const {
    const RunScopes scopes(options_.run);
    tell(concat("drawing ", static_cast<int64_t>(demo_classes(task).size()) * (train + val), " pictures of ",
                demo_classes(task).size(), " classes in ", folder.string()));
    write_demo_images(folder / "train", task, options_.seed, 0, train);
    write_demo_images(folder / "val", task, options_.seed, train, val);
  }

  void draw() const {
    const DemoWork& work = options_.work;
    if (!result_.source.empty()) draw(result_.source, DemoTask::source, work.source_train, work.source_val);
    draw(result_.target, DemoTask::target, work.target_train, work.target_val);
  }

  // What all runs have in common; pictures hold one object that crops must not lose.
  TrainOptions run_options(const std::string& model, Strategy strategy, const fs::path& data) const {
    TrainOptions run;
    run.strategy = strategy;
    if (strategy == Strategy::scratch && model == kVit) run.lr = kVitScratchRate;
    run.data = data;
    run.model.model = model;
    run.run = options_.run;
    if (!run.run.input_size) run.run.input_size = result_.source.empty() ? kOwnInputSize : options_.work.input_size;
    run.augment = io::AugmentPreset::light;
    run.seed = options_.seed;
    return run;
  }

  TrainResult train(const std::string& what, const TrainOptions& options) {
    tell(what);
    TrainResult result = finetune::train(options, callbacks_.training);
    result_.stopped = result.stop == StopReason::requested;
    return result;
  }

  void pretrain_and_use(const char* model, int64_t epochs) {
    if (result_.stopped) return;
    TrainOptions run = run_options(model, Strategy::scratch, result_.source);
    run.epochs = epochs;
    run.out = options_.out / model / "pretrained";
    const TrainResult trained = train(concat(model, ": pretraining on the source task"), run);
    use({model, run.out / "best", trained.seconds, trained.best.accuracy});
  }

  void use(const DemoBackbone& backbone) {
    result_.backbones.push_back(backbone);
    for (const Strategy strategy : options_.strategies)
      if (!result_.stopped) fine_tune(backbone, strategy);
  }

  int64_t epochs(Strategy strategy) const {
    if (strategy == Strategy::scratch) return options_.work.scratch_epochs;
    return strategy == Strategy::head ? options_.work.head_epochs : options_.work.tuning_epochs;
  }

  void fine_tune(const DemoBackbone& backbone, Strategy strategy) {
    TrainOptions run = run_options(backbone.model, strategy, result_.target);
    run.run.batch_size = std::min(run.run.batch_size, kTargetBatch);
    run.epochs = epochs(strategy);
    if (strategy != Strategy::scratch) {
      run.model.weights = backbone.weights;
      run.model.head = models::HeadPolicy::fresh;
    }
    run.out = options_.out / backbone.model / name(strategy);
    const TrainResult trained = train(concat(backbone.model, ": ", name(strategy), " on the target task"), run);
    if (result_.stopped) return;
    result_.rows.push_back({backbone.model, strategy, trained.plan.trainable_parameters, trained.plan.total_parameters,
                            trained.seconds, trained.best.accuracy, run.out});
    if (callbacks_.on_row) callbacks_.on_row(result_.rows.back());
  }

  const DemoOptions& options_;
  const DemoCallbacks& callbacks_;
  DemoResult result_;
};

}  // namespace

DemoWork DemoWork::quick() {
  DemoWork work;
  work.source_train = 4;
  work.source_val = work.target_train = work.target_val = 2;
  work.resnet_epochs = work.vit_epochs = 1;
  work.scratch_epochs = work.head_epochs = work.tuning_epochs = 1;
  return work;
}

DemoResult run_demo(const DemoOptions& options, const DemoCallbacks& callbacks) {
  check(options);
  return Demo(options, callbacks)();
}

std::string to_json(const DemoResult& result) {
  using Json = nlohmann::ordered_json;
  Json rows = Json::array(), backbones = Json::array(), runs = Json::array();
  for (const DemoRow& row : result.rows) {
    rows.push_back({{"model", row.model},
                    {"strategy", name(row.strategy)},
                    {"trainable_parameters", row.trainable_parameters},
                    {"total_parameters", row.total_parameters},
                    {"seconds", row.seconds},
                    {"accuracy", row.accuracy}});
    runs.push_back(row.folder.string());
  }
  for (const DemoBackbone& backbone : result.backbones)
    backbones.push_back({{"model", backbone.model},
                         {"weights", backbone.weights.string()},
                         {"seconds", backbone.seconds},
                         {"accuracy", backbone.accuracy ? Json(*backbone.accuracy) : Json(nullptr)}});
  const Json source = result.source.empty() ? Json(nullptr) : Json(result.source.string());
  return Json{{"rows", std::move(rows)},
              {"backbones", std::move(backbones)},
              {"files", {{"source", source}, {"target", result.target.string()}, {"runs", std::move(runs)}}},
              {"seconds", result.seconds}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace vtl::finetune
