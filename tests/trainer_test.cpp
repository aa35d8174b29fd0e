#include "vtl/tools/finetune/trainer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "vtl/core/error.h"
#include "vtl/core/rng.h"
#include "vtl/models/adapter.h"
#include "vtl/models/lora.h"
#include "vtl/tests/harness/errors.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/tools/finetune/evaluate.h"
#include "vtl/tools/finetune/inputs.h"
#include "vtl/tools/finetune/run_folder.h"
#include "vtl/tools/finetune/scopes.h"

using namespace vtl;
using namespace vtl::finetune;
using test::kind_of;

namespace {

constexpr int64_t kSide = 32;

// Three classes of stripes: which way they run tells the class, colour and noise do not.
io::Sample picture(int64_t label, uint32_t index) {
  RandomSequence random(7, RandomStream::demo, static_cast<uint32_t>(label), index);
  auto image = std::make_shared<io::Image>();
  image->width = image->height = kSide;
  const float base[3] = {random.uniform(60, 140), random.uniform(60, 140), random.uniform(60, 140)};
  const uint32_t shift = random.below(8);
  for (int64_t y = 0; y < kSide; ++y)
    for (int64_t x = 0; x < kSide; ++x) {
      const int64_t along = (label == 0 ? y : label == 1 ? x : x + y) + shift;
      for (const float channel : base)
        image->rgb.push_back(static_cast<uint8_t>(channel + (along % 8 < 4 ? 60.0f : 0.0f) + random.uniform(-10, 10)));
    }
  return {"picture " + std::to_string(label) + "/" + std::to_string(index), image, label};
}

io::Dataset pictures(uint32_t train_per_class = 8, uint32_t val_per_class = 4) {
  io::Dataset data;
  data.classes = {"across", "down", "slanted"};
  for (int64_t label = 0; label < 3; ++label)
    for (uint32_t i = 0; i < train_per_class + val_per_class; ++i)
      (i < train_per_class ? data.train : data.val).push_back(picture(label, i));
  return data;
}

models::LoadedModel make_model(const char* name = "resnet18", Precision precision = Precision::fp32) {
  models::LoadOptions options;
  options.model.precision = precision;
  options.model.height = options.model.width = kSide;
  options.class_names = {"across", "down", "slanted"};
  return models::scratch_model(name, options);
}

// A third of the parameters, where much is written.
models::LoadedModel small_model(Precision precision = Precision::fp32) {
  return make_model("tf_efficientnet_lite0", precision);
}

TrainOptions quick(Strategy strategy, int64_t epochs) {
  TrainOptions options;
  options.strategy = strategy;
  options.epochs = epochs;
  options.run.batch_size = 8;
  options.run.precision = Precision::fp32;
  options.run.threads = 1;  // the machine may be busy, and two threads that wait for each other are slower than one
  options.augment = io::AugmentPreset::none;
  return options;
}

// Bytes of every parameter and statistic.
std::map<std::string, std::vector<std::byte>> bits(const models::Model& model) {
  struct Reader : layers::Visitor {
    std::map<std::string, std::vector<std::byte>> found;
    void add(const std::string& name, const Tensor& tensor) {
      std::vector<std::byte> bytes(tensor.bytes());
      tensor.copy_to_host(bytes);
      found[name] = std::move(bytes);
    }
    void on_parameter(const std::string& name, layers::Parameter& parameter) override { add(name, parameter.value()); }
    void on_buffer(const std::string& name, Tensor& tensor) override { add(name, tensor); }
  } reader;
  model.visit(reader);
  return reader.found;
}

std::vector<double> losses(const TrainOptions& options) {
  std::vector<double> values;
  Callbacks callbacks;
  callbacks.on_event = [&](const Event& event) {
    if (const auto* step = std::get_if<StepEvent>(&event)) values.push_back(step->loss);
  };
  train(options, make_model(), pictures(), callbacks);
  return values;
}

// A callback that acts once, when so many steps are done.
Callbacks after_step(int64_t step, std::function<void()> action) {
  Callbacks callbacks;
  callbacks.on_event = [step, action = std::move(action)](const Event& event) {
    if (const auto* done = std::get_if<StepEvent>(&event); done && done->step == step) action();
  };
  return callbacks;
}

[[noreturn]] void break_off() { throw std::runtime_error("broken off"); }

void set_first_element(const models::LoadedModel& loaded, const std::string& parameter, float value) {
  struct Setter : layers::Visitor {
    std::string name;
    float value = 0;
    void on_parameter(const std::string& found, layers::Parameter& parameter) override {
      if (found == name) *parameter.value().f32() = value;
    }
  } setter;
  setter.name = parameter;
  setter.value = value;
  loaded.model.visit(setter);
}

void poison(const models::LoadedModel& loaded, const std::string& parameter) {
  set_first_element(loaded, parameter, std::numeric_limits<float>::quiet_NaN());
}

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("training from scratch learns a small set of pictures and returns its best epoch") {
  TrainOptions options = quick(Strategy::scratch, 8);
  const io::Dataset data = pictures();
  const TrainResult result = train(options, make_model(), data);
  CHECK(result.steps == 24);
  CHECK(result.stop == StopReason::finished);
  REQUIRE(result.history.size() == 8);
  CHECK(result.history.back().train_loss < 0.2 * result.history.front().train_loss);
  CHECK(result.history.back().train_accuracy == 1);
  CHECK(result.best.accuracy >= 0.5);  // chance is a third
  CHECK(result.plan.trainable_parameters == result.plan.total_parameters);
  CHECK(result.peak_memory_bytes > 0);
  CHECK(models::count_parameters(result.model.model).learning == 0);
  for (const EpochEvent& epoch : result.history) {
    CHECK(epoch.validation.accuracy <= result.best.accuracy);
    if (epoch.epoch == result.best_epoch) CHECK(epoch.best);
  }
  // The weights are those of the best epoch.
  const Evaluation again = evaluate(result.model, data.val, options.run);
  CHECK(again.metrics.accuracy == result.best.accuracy);
  CHECK(again.metrics.loss == doctest::Approx(result.best.loss).epsilon(1e-5));
  CHECK(again.metrics.confusion == result.best.confusion);
  const std::vector<Prediction> predictions = predict(result.model, data.val, options.run, 2);
  int64_t right = 0;
  for (size_t i = 0; i < predictions.size(); ++i) {
    REQUIRE(predictions[i].top.size() == 2);
    right += predictions[i].top[0].index == std::get<io::ClassIndex>(data.val[i].target);
    CHECK(predictions[i].top[0].label == data.classes[static_cast<size_t>(predictions[i].top[0].index)]);
  }
  CHECK(right == std::llround(result.best.accuracy * static_cast<double>(data.val.size())));
}

TEST_CASE("what is frozen keeps its bits") {
  struct Case {
    Strategy strategy;
    std::function<bool(const std::string&)> may_change;
  };
  const std::vector<Case> cases = {
      {Strategy::head, [](const std::string& name) { return name.starts_with("fc."); }},
      {Strategy::partial,
       [](const std::string& name) { return name.starts_with("layer4.1.") || name.starts_with("fc."); }},
      {Strategy::bitfit, [](const std::string& name) { return name.ends_with(".bias") || name.starts_with("fc."); }}};
  for (const Case& c : cases) {
    CAPTURE(name(c.strategy));
    TrainOptions options = quick(c.strategy, 1);
    if (c.strategy == Strategy::partial) options.unfreeze = 1;
    const auto before = bits(make_model().model);
    const auto after = bits(train(options, make_model(), pictures()).model.model);
    REQUIRE(before.size() == after.size());
    int64_t changed = 0;
    for (const auto& [name, bytes] : before) {
      CAPTURE(name);
      if (!c.may_change(name)) CHECK(bytes == after.at(name));
      changed += bytes != after.at(name);
    }
    CHECK(changed >= 2);
  }
}

TEST_CASE("the same seed gives the same bits for any number of loader workers") {
  TrainOptions options = quick(Strategy::full, 1);
  options.augment = io::AugmentPreset::standard;
  options.run.workers = 0;
  const std::vector<double> none = losses(options);
  REQUIRE(none.size() == 3);
  for (const int workers : {1, 2}) {
    options.run.workers = workers;
    CHECK(losses(options) == none);
  }
  options.seed = 1;
  CHECK(losses(options) != none);
}

TEST_CASE("micro-batches add up to one step of the whole batch") {
  // Running statistics, so that a batch of eight is the sum of its halves.
  TrainOptions whole = quick(Strategy::full, 1);
  whole.batchnorm = BatchNormChoice::frozen;
  whole.lr = 1e-4;
  TrainOptions halves = whole;
  halves.run.batch_size = 4;
  halves.accumulate = 2;
  const std::vector<double> once = losses(whole), twice = losses(halves);
  REQUIRE(once.size() == 3);
  REQUIRE(twice.size() == 3);
  for (size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == doctest::Approx(once[i]).epsilon(2e-3));
}

TEST_CASE("what frozen stages make of the pictures is computed once unless the pictures change") {
  const RunScopes one_thread(quick(Strategy::head, 1).run);
  const models::Model model = make_model().model;
  const io::Dataset data = pictures();
  io::LoaderOptions how;
  how.batch_size = 5;
  how.seed = 3;
  how.preprocessing = model.facts.preprocessing;
  const Normalizer normalizer(model);
  io::Loader loader(data.train, how);
  const auto each_time = picture_inputs(loader, normalizer);
  io::LoaderOptions in_order = how;
  in_order.order = io::SampleOrder::as_given;
  io::Loader once(data.train, in_order);
  const auto cached = cached_inputs(once, normalizer, model, model.head_stage(), how);
  CHECK(cached->stage() == model.head_stage());
  CHECK(cached->batches() == each_time->batches());
  for (const int64_t epoch : {1, 2}) {
    cached->start(epoch, 1);
    each_time->start(epoch, 1);
    for (InputBatch a, b; each_time->next(a);) {
      REQUIRE(cached->next(b));
      const Tensor features = model.forward(a.x, 0, model.head_stage());
      REQUIRE(b.x.shape() == features.shape());
      REQUIRE(a.labels.shape() == b.labels.shape());
      for (int64_t i = 0; i < a.count(); ++i) CHECK(a.labels.data_as<int64_t>()[i] == b.labels.data_as<int64_t>()[i]);
      double difference = 0, largest = 0;
      for (int64_t i = 0; i < features.numel(); ++i) {
        difference = std::max<double>(difference, std::abs(b.x.f32()[i] - features.f32()[i]));
        largest = std::max<double>(largest, std::abs(features.f32()[i]));
      }
      CHECK(difference <= 1e-5 * largest);  // batches of other sizes may be summed in another order
    }
  }

  TrainOptions options = quick(Strategy::head, 2);
  options.dry_run = true;
  const auto is_cached = [&] { return train(options, make_model(), data).plan.phases.at(0).cached; };
  CHECK(is_cached());
  options.augment = io::AugmentPreset::light;
  CHECK_FALSE(is_cached());
  options.augment = io::AugmentPreset::none;
  options.batchnorm = BatchNormChoice::train;
  CHECK_FALSE(is_cached());
}

TEST_CASE("a run ends after max-steps, without improvement, or when it is asked to, always with validation") {
  TrainOptions options = quick(Strategy::head, 50);
  options.max_steps = 4;
  TrainResult result = train(options, make_model(), pictures());
  CHECK(result.stop == StopReason::max_steps);
  CHECK(result.steps == 4);
  CHECK(result.plan.steps == 4);
  CHECK(result.history.size() == 2);
  CHECK(result.history.back().validation.images == 12);

  options.max_steps.reset();
  options.lr = 0;
  options.early_stop = 2;
  result = train(options, make_model(), pictures());
  CHECK(result.stop == StopReason::early_stop);
  CHECK(result.history.size() == 3);
  CHECK(result.best_epoch == 1);

  Callbacks callbacks;
  int64_t asked = 0;
  callbacks.stop_requested = [&] { return ++asked == 5; };
  options.early_stop = 0;
  result = train(options, make_model(), pictures(), callbacks);
  CHECK(result.stop == StopReason::requested);
  CHECK(result.steps == 5);
  CHECK(result.history.size() == 2);
  CHECK(result.history.back().validation.images == 12);
}

TEST_CASE("the plan comes first and counts what will happen") {
  TrainOptions options = quick(Strategy::two_stage, 3);
  options.dry_run = true;
  std::vector<size_t> kinds;
  Callbacks callbacks;
  callbacks.on_event = [&](const Event& event) { kinds.push_back(event.index()); };
  const TrainResult result = train(options, make_model(), pictures(9, 4), callbacks);
  CHECK(kinds == std::vector<size_t>{0});
  CHECK(result.history.empty());
  const Plan& plan = result.plan;
  CHECK(plan.train_images == 27);
  CHECK(plan.val_images == 12);
  CHECK(plan.epochs == 3);
  CHECK(plan.steps == 12);
  REQUIRE(plan.phases.size() == 2);
  CHECK(plan.phases[0].trainable_parameters == 512 * 3 + 3);
  CHECK(plan.phases[1].trainable_parameters == plan.total_parameters);
  CHECK(plan.monitor == "accuracy");
  // Weights, gradients and two moments at least.
  CHECK(plan.estimated_memory_bytes > static_cast<size_t>(plan.total_parameters) * 16);

  io::Dataset uneven = pictures(9, 4);
  uneven.train.erase(uneven.train.begin(), uneven.train.begin() + 7);
  CHECK(train(options, make_model(), uneven).plan.monitor == "macro_f1");
}

TEST_CASE("memory is estimated without trying out pictures far beyond the model's size, and refused where there is not enough") {
  TrainOptions options = quick(Strategy::two_stage, 2);
  options.dry_run = true;
  const auto model = [](int64_t side) {
    models::LoadOptions load;
    load.model.precision = Precision::fp32;
    load.model.height = load.model.width = side;
    load.class_names = {"across", "down", "slanted"};
    return models::scratch_model("resnet18", load);
  };
  // A picture at the size of the weights takes what a picture of a quarter of the pixels takes, four times.
  options.run.batch_size = 16;
  const auto growth = [&](int64_t side) {
    const auto estimate = [&](int64_t of) { return train(options, model(of), pictures()).plan.estimated_memory_bytes; };
    const auto small = static_cast<double>(estimate(32));
    return static_cast<double>(estimate(side)) - small;
  };
  const double whole = growth(224);
  CHECK(whole / growth(112) == doctest::Approx(4).epsilon(0.3));
  // Frozen layers keep nothing for backward.
  options.strategy = Strategy::head;
  CHECK(growth(224) < whole / 2);
  options.run.batch_size = 65536;
  CHECK(kind_of([&] { train(options, model(8192), pictures()); }) == ErrorKind::out_of_memory);
}

TEST_CASE("three steps in a row that are not finite end the run") {
  models::LoadedModel loaded = make_model();
  poison(loaded, "fc.bias");
  int64_t skipped = 0;
  Callbacks callbacks;
  callbacks.on_event = [&](const Event& event) {
    if (const auto* step = std::get_if<StepEvent>(&event)) skipped += step->skipped;
  };
  CHECK(kind_of([&] { train(quick(Strategy::full, 2), std::move(loaded), pictures(), callbacks); }) ==
        ErrorKind::diverged);
  CHECK(skipped == 2);
}

TEST_CASE("a skipped step changes no statistics, has no gradient norm, and nothing but skipped steps is a divergence") {
  models::LoadedModel loaded = make_model();
  poison(loaded, "conv1.weight");
  const models::Model model = loaded.model;  // shares what it holds
  const auto before = bits(model);
  TrainOptions options = quick(Strategy::full, 1);
  options.max_steps = 2;
  Callbacks callbacks;
  int64_t skipped = 0;
  callbacks.on_event = [&](const Event& event) {
    const auto* step = std::get_if<StepEvent>(&event);
    if (!step) return;
    skipped += step->skipped;
    CHECK(std::isnan(step->grad_norm));
  };
  CHECK(kind_of([&] { train(options, std::move(loaded), pictures(), callbacks); }) == ErrorKind::diverged);
  CHECK(skipped == 2);
  CHECK(bits(model) == before);
}

TEST_CASE("a picture whose pixels cannot be read counts once, however often it is met") {
  const test::TempDir folder;
  const std::string path = folder / "cut.png";
  std::ofstream(path) << "\x89PNG\r\n\x1a\n";
  io::Dataset data = pictures();
  data.train[0] = {path, nullptr, io::ClassIndex{0}};
  const TrainResult result = train(quick(Strategy::two_stage, 2), make_model(), data);
  CHECK(result.stop == StopReason::finished);
  REQUIRE(result.bad_files.size() == 1);
  CHECK(result.bad_files[0].path == path);
}

TEST_CASE("without validation pictures the last epoch is the best") {
  const TrainResult result = train(quick(Strategy::head, 3), make_model(), pictures(4, 0));
  CHECK(result.best_epoch == 3);
  CHECK(result.best.images == 0);
}

TEST_CASE("a run folder holds the configuration, the events, the summary and both models") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::head, 2);
  options.out = folder / "runs/first";
  const TrainResult result = train(options, make_model(), pictures());

  const auto run = nlohmann::json::parse(slurp(options.out / "run.json"));
  CHECK(run["options"]["strategy"] == "head");
  CHECK(run["options"]["batch_size"] == 8);
  CHECK(run["plan"]["trainable_parameters"] == 512 * 3 + 3);
  const auto summary = nlohmann::json::parse(slurp(options.out / "summary.json"));
  CHECK(summary["best_epoch"] == result.best_epoch);
  CHECK(summary["metrics"]["accuracy"] == result.best.accuracy);
  CHECK(summary["peak_memory_bytes"].get<size_t>() > 0);

  std::map<std::string, int> events;
  std::istringstream lines(slurp(options.out / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto event = nlohmann::json::parse(line);
    ++events[event["event"]];
    if (event["event"] == "step") {
      for (const char* key : {"epoch", "step", "loss", "lr", "grad_norm", "images_per_second"})
        CHECK(event.contains(key));
      CHECK(event["lr"].contains("head"));
    }
    if (event["event"] == "epoch")
      for (const char* key :
           {"epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "macro_f1", "seconds"})
        CHECK(event.contains(key));
  }
  CHECK(events["plan"] == 1);
  CHECK(events["step"] == 6);
  CHECK(events["epoch"] == 2);
  CHECK(events["stop"] == 1);
  const std::string table = slurp(options.out / "metrics.csv");
  CHECK(std::count(table.begin(), table.end(), '\n') == 3);

  const models::LoadedModel best = open_model(options.out, options.run);
  CHECK(best.model.facts.class_names == result.plan.classes);
  CHECK(evaluate(best, pictures().val, options.run).metrics.confusion == result.best.confusion);
  CHECK(std::filesystem::exists(options.out / "last" / "model.safetensors"));

  CHECK(kind_of([&] { train(options, make_model(), pictures()); }) == ErrorKind::bad_argument);
  TrainOptions nothing = options;
  nothing.data = folder / "no data";
  nothing.model.model = "resnet18";
  nothing.strategy = Strategy::scratch;
  nothing.out = folder / "second";
  CHECK(kind_of([&] { train(nothing); }) == ErrorKind::bad_data);
  CHECK_FALSE(std::filesystem::exists(nothing.out));
  options.out = options.out / "run.json" / "below";
  CHECK(kind_of([&] { train(options, make_model(), pictures()); }) == ErrorKind::io);
}

TEST_CASE("lora leaves the merged model in best and the same epoch in adapter") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::lora, 1);
  options.rank = 2;
  options.out = folder / "run";
  const TrainResult result = train(options, make_model(), pictures());
  CHECK(result.plan.trainable_parameters < result.plan.total_parameters / 20);
  CHECK(std::filesystem::exists(options.out / "adapter" / "adapter_config.json"));
  const models::LoadedModel merged = open_model(options.out, options.run);
  CHECK_FALSE(models::has_lora(merged.model));
  const Metrics of_merged = evaluate(merged, pictures().val, options.run).metrics;
  CHECK(of_merged.loss == doctest::Approx(result.best.loss).epsilon(1e-4));

  models::LoadedModel adapted = make_model();
  models::load_adapter(adapted, options.out / "adapter");
  CHECK(evaluate(adapted, pictures().val, options.run).metrics.loss == doctest::Approx(result.best.loss).epsilon(1e-4));
}

TEST_CASE("a run that was stopped and resumed ends with the bits of one that was not") {
  const test::TempDir folder;
  const std::pair<Strategy, Precision> cases[] = {{Strategy::two_stage, Precision::fp32},
                                                  {Strategy::two_stage, Precision::bf16},
                                                  {Strategy::lora, Precision::fp32}};
  for (const auto& [strategy, precision] : cases) {
    const std::string run = std::string(name(strategy)) + "-" + name(precision);
    CAPTURE(run);
    TrainOptions options = quick(strategy, 2);
    options.run.precision = precision;
    options.augment = io::AugmentPreset::standard;
    if (strategy == Strategy::lora) options.rank = 2;
    options.out = folder / (run + "-whole");
    const TrainResult whole = train(options, small_model(precision), pictures());

    options.out = folder / run;
    TrainResult parts = whole;
    // In the middle of an epoch, at the end of one, in the other phase.
    const std::vector<int64_t> stops =
        strategy == Strategy::lora ? std::vector<int64_t>{2, 100} : std::vector<int64_t>{2, 3, 5, 100};
    for (const int64_t stop_at : stops) {
      Callbacks callbacks;
      int64_t last = 0;
      callbacks.on_event = [&](const Event& event) {
        if (const auto* step = std::get_if<StepEvent>(&event)) last = step->step;
      };
      callbacks.stop_requested = [&] { return last == stop_at; };
      parts = train(options, small_model(precision), pictures(), callbacks);
      CHECK(std::filesystem::exists(options.out / "summary.json") == (stop_at == 100));
      CHECK(parts.stop == (stop_at == 100 ? StopReason::finished : StopReason::requested));
    }
    CHECK(parts.steps == whole.steps);
    CHECK(parts.best_epoch == whole.best_epoch);
    CHECK(parts.best.loss == whole.best.loss);
    REQUIRE(parts.history.size() == whole.history.size());
    for (size_t i = 0; i < whole.history.size(); ++i) {
      CHECK(parts.history[i].train_loss == whole.history[i].train_loss);
      CHECK(parts.history[i].validation.loss == whole.history[i].validation.loss);
    }
    CHECK(bits(parts.model.model) == bits(whole.model.model));
    for (const char* model : {"best", "last"})
      CHECK(slurp(options.out / model / "model.safetensors") ==
            slurp(folder / (run + "-whole") / model / "model.safetensors"));
    // Each step is recorded once.
    std::vector<int64_t> steps;
    std::istringstream lines(slurp(options.out / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);)
      if (const auto event = nlohmann::json::parse(line); event["event"] == "step") steps.push_back(event["step"]);
    REQUIRE(steps.size() == static_cast<size_t>(whole.steps));
    for (size_t i = 0; i < steps.size(); ++i) CHECK(steps[i] == static_cast<int64_t>(i) + 1);
    CHECK(kind_of([&] { train(options, small_model(precision), pictures()); }) == ErrorKind::bad_argument);
  }
}

TEST_CASE("a run is resumed only with the options it was begun with") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::head, 2);
  options.out = folder / "run";
  Callbacks stop;
  stop.stop_requested = [] { return true; };
  train(options, small_model(), pictures(), stop);
  CHECK(can_resume(options.out, options));
  TrainOptions other = options;
  other.lr = 0.5;
  CHECK_FALSE(can_resume(options.out, other));
  CHECK(kind_of([&] { train(other, small_model(), pictures()); }) == ErrorKind::bad_argument);
  other.resume = ResumeChoice::on;
  CHECK(kind_of([&] { train(other, small_model(), pictures()); }) == ErrorKind::bad_argument);
  options.resume = ResumeChoice::off;
  CHECK(kind_of([&] { train(options, small_model(), pictures()); }) == ErrorKind::bad_argument);
  options.resume = ResumeChoice::automatic;
  options.run.workers = 1;
  CHECK(train(options, small_model(), pictures()).stop == StopReason::finished);

  TrainOptions broken = options;
  broken.out = folder / "broken";
  train(broken, small_model(), pictures(), stop);
  std::ofstream(broken.out / "checkpoints" / "last.safetensors", std::ios::trunc) << "garbage";
  CHECK(kind_of([&] { train(broken, small_model(), pictures()); }) == ErrorKind::bad_model);
}

TEST_CASE("a run is resumed only with the weights and the pictures it was begun with") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::head, 2);
  options.out = folder / "run";
  Callbacks stop;
  stop.stop_requested = [] { return true; };
  const auto weights = folder / "base" / "model.safetensors";
  const auto model = [&] {
    models::LoadOptions load;
    load.model.precision = Precision::fp32;
    load.class_names = {"across", "down", "slanted"};
    return models::load_model("tf_efficientnet_lite0", weights, load);
  };
  models::save_model(small_model(), folder / "base");
  train(options, model(), pictures(), stop);

  io::Dataset fewer = pictures();
  fewer.train.pop_back();
  CHECK(kind_of([&] { train(options, model(), fewer); }) == ErrorKind::bad_data);
  io::Dataset relabelled = pictures();
  relabelled.val[0].target = io::ClassIndex{2};
  CHECK(kind_of([&] { train(options, model(), relabelled); }) == ErrorKind::bad_data);

  models::LoadedModel other = small_model();
  set_first_element(other, "conv_head.weight", 7);
  models::save_model(other, folder / "base");
  CHECK(kind_of([&] { train(options, model(), pictures()); }) == ErrorKind::bad_model);

  models::save_model(small_model(), folder / "base");
  CHECK(train(options, model(), pictures()).stop == StopReason::finished);
}

TEST_CASE("a run that was broken off goes on after its last finished epoch, with the same bits") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::two_stage, 3);
  options.out = folder / "whole";
  const TrainResult whole = train(options, small_model(), pictures());
  options.out = folder / "parts";
  for (const int64_t step : {5, 8})  // in the first and in the second epoch of the second phase
    CHECK_THROWS_AS(train(options, small_model(), pictures(), after_step(step, break_off)), std::runtime_error);
  std::vector<std::string> notes;
  Callbacks callbacks;
  callbacks.on_event = [&](const Event& event) {
    if (const auto* note = std::get_if<Note>(&event)) notes.push_back(note->text);
  };
  const TrainResult parts = train(options, small_model(), pictures(), callbacks);
  CHECK(notes == std::vector<std::string>{"continues after step 6"});
  CHECK(parts.history.size() == 3);
  CHECK(bits(parts.model.model) == bits(whole.model.model));
  CHECK(slurp(folder / "parts" / "best" / "model.safetensors") == slurp(folder / "whole" / "best" / "model.safetensors"));
}

TEST_CASE("a folder without a finished epoch does not stand in the way of a new run") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::head, 2);
  options.out = folder / "run";
  // What a killed process leaves.
  const auto kill = [&] { std::filesystem::copy(options.out, folder / "killed", std::filesystem::copy_options::recursive); };
  train(options, small_model(), pictures(), after_step(2, kill));
  CHECK(std::filesystem::exists(folder / "killed" / "run.json"));
  options.out = folder / "killed";
  CHECK(train(options, small_model(), pictures()).stop == StopReason::finished);

  options.out = folder / "failed";
  CHECK_THROWS_AS(train(options, small_model(), pictures(), after_step(2, break_off)), std::runtime_error);
  options.lr = 1e-3;
  CHECK(train(options, small_model(), pictures()).stop == StopReason::finished);
  options.lr = 1e-4;
  CHECK(kind_of([&] { train(options, small_model(), pictures()); }) == ErrorKind::bad_argument);
}

TEST_CASE("two runs at once do not write into one folder") {
  const test::TempDir folder;
  TrainOptions options = quick(Strategy::head, 1);
  options.out = folder / "run";
  int64_t refused = 0;
  Callbacks callbacks;
  callbacks.on_event = [&](const Event& event) {
    if (std::holds_alternative<Plan>(event))
      refused += kind_of([&] { train(options, small_model(), pictures()); }) == ErrorKind::bad_argument;
  };
  train(options, small_model(), pictures(), callbacks);
  CHECK(refused == 1);
  CHECK(std::filesystem::exists(options.out / "summary.json"));
}
