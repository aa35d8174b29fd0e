#include "vtl/tools/finetune/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/tape.h"
#include "vtl/io/loader.h"
#include "vtl/models/adapter.h"
#include "vtl/models/lora.h"
#include "vtl/optim/optimizer.h"
#include "vtl/tools/finetune/checkpoint.h"
#include "vtl/tools/finetune/inputs.h"
#include "vtl/tools/finetune/memory.h"
#include "vtl/tools/finetune/plan.h"
#include "vtl/tools/finetune/run_folder.h"
#include "vtl/tools/finetune/scopes.h"
#include "vtl/tools/finetune/snapshot.h"
#include "vtl/tools/finetune/strategy.h"
#include "vtl/tools/finetune/task.h"

namespace vtl::finetune {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxBadSteps = 3;
constexpr double kCheckpointShare = 0.05;  // of the time of a run, at most, goes into checkpoints at the ends of epochs

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Events to whoever listens: the run folder and the caller.
class Reporter {
 public:
  Reporter(const Callbacks& callbacks, RunFolder* folder) : callbacks_(callbacks), folder_(folder) {}

  void operator()(const Event& event) {
    if (const auto* bad = std::get_if<BadFile>(&event)) {
      if (!bad_paths_.insert(bad->path).second) return;  // every loader finds it anew
      bad_files_.push_back(*bad);
    }
    if (folder_) folder_->record(event);
    if (callbacks_.on_event) callbacks_.on_event(event);
  }
  bool stop_requested() const { return callbacks_.stop_requested && callbacks_.stop_requested(); }
  RunFolder* folder() const { return folder_; }  // null: nothing is written
  const std::vector<BadFile>& bad_files() const { return bad_files_; }

 private:
  const Callbacks& callbacks_;
  RunFolder* folder_;
  std::vector<BadFile> bad_files_;
  std::set<std::string> bad_paths_;
};

// Of a step, from its micro-batches; loss is the mean.
struct StepOutcome {
  double loss = 0;
  int64_t images = 0, right = 0;
  double grad_norm = std::numeric_limits<double>::quiet_NaN();  // where it came to a gradient
  bool skipped = true;                                          // loss or gradient not finite: nothing changed
};

class Run {
 public:
  Run(const TrainOptions& options, models::LoadedModel loaded, io::Dataset data, Reporter& report)
      : options_(options),
        report_(report),
        data_(std::move(data)),
        phases_(phases(options, loaded.model)),
        result_{std::move(loaded), {}, {}, 0, {}, {}, StopReason::finished, 0, 0, 0, {}},
        normalizer_(model()),
        task_(classification_task({data_.classes, static_cast<float>(options.label_smoothing), {}}, model().device)) {
    std::set<layers::Parameter*> seen;
    for (const Phase& phase : phases_)
      for (const optim::Group& group : phase.groups)
        for (const optim::Member& member : group.members)
          if (seen.insert(member.parameter).second) learning_.push_back(member);
  }

  // Continues where the checkpoint was written.
  void resume(Checkpoint checkpoint) { from_ = std::move(checkpoint); }

  TrainResult operator()() {
    const auto begin = Clock::now();
    result_.plan = make_plan(options_, result_.model, data_, phases_);
    RunFolder* const folder = report_.folder();
    if (folder) folder->write_run(options_, result_.plan, sources_of(result_.model, data_));
    if (folder && data_.made_split) folder->write_split(data_);
    report_(result_.plan);
    if (!options_.dry_run) {
      if (from_) take_up(*from_);
      train_phases();
      finish();
      result_.seconds = seconds_since(begin);
    }
    result_.bad_files = report_.bad_files();
    result_.peak_memory_bytes = peak_resident_memory_bytes();
    if (folder && !stopped()) {
      folder->write_summary(result_);
      folder->remove_checkpoint();
    }
    return std::move(result_);
  }

 private:
  const models::Model& model() const { return result_.model.model; }
  bool stopped() const { return result_.stop == StopReason::requested; }

  // ---- inputs ----

  io::LoaderOptions loader_options(io::SampleOrder order, const io::Augmentation& augmentation) const {
    io::LoaderOptions loader;
    loader.batch_size = options_.run.batch_size;
    loader.order = order;
    loader.seed = options_.seed;
    loader.preprocessing = model().facts.preprocessing;
    loader.augmentation = augmentation;
    loader.workers = result_.plan.workers;
    loader.on_bad_file = [this](const BadFile& file) {
      report_(file);
      check_bad_files();
    };
    return loader;
  }

  // Files that turn out broken only when their pixels are decoded count as well.
  void check_bad_files() const {
    const auto files = static_cast<int64_t>(data_.train.size() + data_.val.size() + data_.test.size());
    const auto bad = static_cast<int64_t>(report_.bad_files().size());
    const int64_t allowed = io::allowed_bad_files(files, options_.max_bad / 100);
    if (bad <= allowed) return;
    std::vector<std::string> problems;
    for (const BadFile& file : report_.bad_files()) problems.push_back(file.path + ": " + file.reason);
    throw Error(ErrorKind::bad_data,
                concat(bad, " of ", files, " pictures cannot be read, ", allowed,
                       " are allowed (--max-bad); the first: ", problems[0]),
                problems);
  }

  // What the frozen stages make of the pictures is computed once where it cannot change.
  std::unique_ptr<Inputs> inputs(std::unique_ptr<io::Loader>& loader, const std::vector<io::Sample>& samples,
                                 const io::LoaderOptions& options, size_t frozen_stages, bool cached) const {
    if (!cached) {
      if (!loader) loader = std::make_unique<io::Loader>(samples, options);
      return picture_inputs(*loader, normalizer_);
    }
    io::LoaderOptions once = options;
    once.order = io::SampleOrder::as_given;
    once.cache_bytes = 0;
    io::Loader passing(samples, once);
    return cached_inputs(passing, normalizer_, model(), frozen_stages, options);
  }

  std::unique_ptr<Inputs> train_inputs(const Phase& phase) {
    const auto order = options_.shuffle ? io::SampleOrder::shuffled : io::SampleOrder::as_given;
    const auto augmentation = io::augmentation(phase.augment ? options_.augment : io::AugmentPreset::none);
    const bool cached = is_cached(phase, model(), static_cast<int64_t>(data_.train.size()));
    train_loader_.reset();
    return inputs(train_loader_, data_.train, loader_options(order, augmentation), phase.frozen_stages, cached);
  }

  std::unique_ptr<Inputs> val_inputs(const Phase& phase) {
    if (data_.val.empty()) return nullptr;
    Phase plain = phase;
    plain.augment = false;
    const bool cached = is_cached(plain, model(), static_cast<int64_t>(data_.val.size()));
    return inputs(val_loader_, data_.val, loader_options(io::SampleOrder::as_given, {}), phase.frozen_stages, cached);
  }

  // ---- training ----

  void train_phases() {
    const std::vector<PhaseLength> lengths = phase_lengths(options_, phases_, static_cast<int64_t>(data_.train.size()));
    for (; at_.phase < static_cast<int64_t>(phases_.size()) && !stopped(); ++at_.phase) {
      const PhaseLength& length = lengths[static_cast<size_t>(at_.phase)];
      if (length.steps > 0) train_phase(phases_[static_cast<size_t>(at_.phase)], length);
      if (stopped()) return;
      first_epoch_ += length.epochs;
      at_.epoch = at_.phase_step = at_.batch = at_.without_improvement = 0;
    }
    if (at_.steps > 0 && at_.bad_steps == at_.steps) fail_diverged("none of the steps was finite");
    if (result_.stop == StopReason::finished && options_.max_steps && at_.steps == *options_.max_steps)
      result_.stop = StopReason::max_steps;
  }

  void train_phase(const Phase& phase, const PhaseLength& length) {
    apply(phase, result_.model);
    optim::OptimizerOptions how;
    how.kind = options_.optimizer;
    how.momentum = static_cast<float>(options_.momentum);
    how.clip_norm = static_cast<float>(options_.clip);
    optim::Optimizer optimizer(how, phase.groups, model().device, options_.seed);
    if (from_) {
      optimizer.load_state(from_->optimizer);
      from_.reset();
      if (at_.epoch == length.epochs) return;  // all of the phase was done
    }
    const optim::Schedule schedule{options_.schedule, length.steps, optim::warmup_steps(options_.warmup, length.steps)};

    report_(PhaseEvent{phase.name, first_epoch_ + at_.epoch + 1,
                       result_.plan.phases[static_cast<size_t>(at_.phase)].trainable_parameters});
    const std::unique_ptr<Inputs> train = train_inputs(phase), val = val_inputs(phase);
    for (; at_.epoch < length.epochs; ++at_.epoch) {
      EpochEvent event;
      event.epoch = first_epoch_ + at_.epoch + 1;
      event.epochs = result_.plan.epochs;
      const auto begin = Clock::now();
      train_epoch(event, *train, optimizer, schedule);
      if (stopped()) save_checkpoint(optimizer);
      if (val) event.validation = evaluate(*val);
      event.seconds = seconds_since(begin);
      keep_if_best(event);
      report_(event);
      result_.history.push_back(event);
      if (stopped()) return;
      at_.without_improvement = event.best ? 0 : at_.without_improvement + 1;
      if (options_.early_stop > 0 && at_.without_improvement >= options_.early_stop) {
        result_.stop = StopReason::early_stop;
        return;
      }
      const bool last = event.epoch == event.epochs;
      if (!last && seconds_since(last_checkpoint_) * kCheckpointShare >= checkpoint_seconds_) {
        ++at_.epoch;
        save_checkpoint(optimizer);
        --at_.epoch;
      }
    }
    result_.stop = StopReason::finished;
  }

  // From at_.batch to the end of the epoch, or to where somebody asks to stop.
  void train_epoch(EpochEvent& event, Inputs& inputs, optim::Optimizer& optimizer, const optim::Schedule& schedule) {
    const std::vector<bool>& trains = phases_[static_cast<size_t>(at_.phase)].batchnorm_trains;
    const bool moves_statistics = std::find(trains.begin(), trains.end(), true) != trains.end();
    auto last = Clock::now();
    inputs.start(event.epoch, at_.batch);
    for (std::vector<InputBatch> micro_batches;
         at_.phase_step < schedule.total_steps && gather(inputs, micro_batches);) {
      at_.batch += static_cast<int64_t>(micro_batches.size());
      const double factor = optim::rate_factor(schedule, at_.phase_step++);
      const Snapshot statistics = moves_statistics ? Snapshot(result_.model, {}) : Snapshot();
      const StepOutcome outcome = step(micro_batches, inputs.stage(), optimizer, factor);
      if (outcome.skipped) statistics.restore(result_.model);
      ++at_.steps;
      count(outcome);
      const double elapsed = seconds_since(last);
      last = Clock::now();
      StepEvent done{event.epoch,  event.epochs, at_.steps,       result_.plan.steps,
                     outcome.loss, {},           outcome.grad_norm, static_cast<double>(outcome.images) / elapsed,
                     outcome.skipped};
      for (const optim::Group& group : optimizer.groups())
        done.rates.emplace_back(group.name, group.learning_rate * factor);
      report_(done);
      if (report_.stop_requested()) {
        result_.stop = StopReason::requested;
        break;
      }
    }
    if (at_.images > 0) {
      event.train_loss = at_.loss_sum / static_cast<double>(at_.images);
      event.train_accuracy = static_cast<double>(at_.right) / static_cast<double>(at_.images);
    }
    if (stopped()) return;
    at_.batch = at_.images = at_.right = 0;
    at_.loss_sum = 0;
  }

  void count(const StepOutcome& outcome) {
    if (!outcome.skipped) {
      at_.bad_steps = 0;
      at_.loss_sum += outcome.loss * static_cast<double>(outcome.images);
      at_.images += outcome.images;
      at_.right += outcome.right;
    } else if (++at_.bad_steps == kMaxBadSteps) {
      fail_diverged(concat(kMaxBadSteps, " steps in a row were not finite (loss ", outcome.loss, ", gradient norm ",
                           outcome.grad_norm, " at step ", at_.steps, ")"));
    }
  }

  [[noreturn]] static void fail_diverged(const std::string& what) {
    fail(ErrorKind::diverged, "train: ", what,
         "; take a lower --lr, a longer --warmup or --precision fp32, and look whether the weights are finite");
  }

  // The micro-batches of one step; none at the end of the epoch.
  bool gather(Inputs& inputs, std::vector<InputBatch>& micro_batches) const {
    micro_batches.clear();
    for (InputBatch batch; static_cast<int64_t>(micro_batches.size()) < options_.accumulate && inputs.next(batch);)
      micro_batches.push_back(std::move(batch));
    return !micro_batches.empty();
  }

  StepOutcome step(std::vector<InputBatch>& micro_batches, size_t stage, optim::Optimizer& optimizer,
                   double rate_factor) const {
    TrainingScope training;
    StepScope with_step(optimizer.state());
    StepOutcome outcome;
    for (const InputBatch& batch : micro_batches) outcome.images += batch.count();
    optimizer.zero_grad();
    for (size_t i = 0; i < micro_batches.size(); ++i) {
      const InputBatch batch = std::exchange(micro_batches[i], {});
      // Each picture counts the same, however the step is divided.
      const float share = static_cast<float>(static_cast<double>(batch.count()) / static_cast<double>(outcome.images));
      if (micro_batches.size() > 1) optimizer.set_micro_batch(static_cast<int64_t>(i));
      Tape tape;
      TapeScope recording(tape);
      const Tensor output = model().forward(batch.x, stage, model().stages().size());
      const Tensor loss = task_->loss(output, batch.labels);
      const double value = loss.item();
      outcome.loss += share * value;
      if (!std::isfinite(value)) {
        tape.clear();
        return outcome;
      }
      outcome.right += task_->count_right(output.value(), batch.labels);
      tape.backward(loss, Tensor::from(std::span(&share, 1), loss.shape(), loss.device()));
    }
    optimizer.step(rate_factor);
    const StepState state = optimizer.read_state();
    outcome.grad_norm = state.grad_norm;
    outcome.skipped = state.skip != 0;
    return outcome;
  }

  // ---- stopping and continuing ----

  void save_checkpoint(const optim::Optimizer& optimizer) {
    RunFolder* const folder = report_.folder();
    if (!folder) return;
    const auto begin = Clock::now();
    Checkpoint checkpoint;
    checkpoint.position = at_;
    checkpoint.best_epoch = result_.best_epoch;
    checkpoint.best = result_.best;
    checkpoint.history = result_.history;
    checkpoint.events_bytes = folder->events_bytes();
    checkpoint.table_bytes = folder->table_bytes();
    checkpoint.model = Snapshot(result_.model, learning_).tensors();
    checkpoint.best_model = best_.tensors();
    checkpoint.optimizer = optimizer.state_tensors();
    write_checkpoint(folder->checkpoint(), checkpoint);
    last_checkpoint_ = Clock::now();
    checkpoint_seconds_ = seconds_since(begin);
  }

  // The model as it was, and best/ too, which may have seen a validation after the stop.
  void take_up(const Checkpoint& checkpoint) {
    at_ = checkpoint.position;
    result_.best_epoch = checkpoint.best_epoch;
    result_.best = checkpoint.best;
    result_.history = checkpoint.history;
    if (at_.phase >= static_cast<int64_t>(phases_.size()))
      fail(ErrorKind::bad_model, "checkpoint: it is in phase ", at_.phase + 1, " of a run that has ", phases_.size());
    const std::vector<PhaseLength> lengths = phase_lengths(options_, phases_, static_cast<int64_t>(data_.train.size()));
    for (int64_t i = 0; i < at_.phase; ++i) first_epoch_ += lengths[static_cast<size_t>(i)].epochs;
    apply(phases_[static_cast<size_t>(at_.phase)], result_.model);
    if (result_.best_epoch > 0) {
      best_ = Snapshot(result_.model, learning_, checkpoint.best_model);
      best_.restore(result_.model);
      save_best();
    }
    Snapshot(result_.model, learning_, checkpoint.model).restore(result_.model);
    report_(Note{concat("continues after step ", at_.steps)});
  }

  // ---- validation and what is kept ----

  Metrics evaluate(Inputs& inputs) const {
    NoTapeScope no_tape;
    TrainingScope evaluating(false);
    const auto observer = task_->observer();
    inputs.start(0);
    for (InputBatch batch; inputs.next(batch);)
      observer->observe(model().forward(batch.x, inputs.stage(), model().stages().size()), batch.labels);
    return observer->metrics();
  }

  double monitored(const Metrics& metrics) const {
    return result_.plan.monitor == "macro_f1" ? metrics.macro_f1 : metrics.accuracy;
  }

  // Without validation images the last epoch is the best.
  bool is_better(const Metrics& metrics) const {
    if (result_.best_epoch == 0 || data_.val.empty()) return true;
    const double now = monitored(metrics), before = monitored(result_.best);
    return now > before || (now == before && metrics.loss < result_.best.loss);
  }

  void keep_if_best(EpochEvent& event) {
    event.best = is_better(event.validation);
    if (!event.best) return;
    result_.best = event.validation;
    result_.best_epoch = event.epoch;
    best_ = Snapshot(result_.model, learning_);
    save_best();
  }

  void save_best() const {
    const RunFolder* folder = report_.folder();
    if (!folder) return;
    models::save_model(result_.model, folder->best());
    if (models::has_lora(model())) models::save_adapter(result_.model, folder->adapter());
  }

  void finish() {
    result_.steps = at_.steps;
    report_(StopEvent{result_.stop, result_.history.empty() ? 0 : result_.history.back().epoch, result_.steps});
    if (const RunFolder* folder = report_.folder()) models::save_model(result_.model, folder->last());
    if (!result_.history.empty() && result_.history.back().epoch != result_.best_epoch) best_.restore(result_.model);
    models::set_learning(result_.model, [](const std::string&, const layers::Parameter&) { return false; });
    if (data_.test.empty()) return;
    io::Loader loader(data_.test, loader_options(io::SampleOrder::as_given, {}));
    result_.test = evaluate(*picture_inputs(loader, normalizer_));
  }

  const TrainOptions& options_;
  Reporter& report_;
  io::Dataset data_;
  std::vector<Phase> phases_;
  TrainResult result_;
  Normalizer normalizer_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<io::Loader> train_loader_, val_loader_;
  std::vector<optim::Member> learning_;  // in any phase
  Snapshot best_;
  RunPosition at_;
  int64_t first_epoch_ = 0;         // epochs of the phases before
  std::optional<Checkpoint> from_;  // until it is taken up
  Clock::time_point last_checkpoint_ = Clock::now();
  double checkpoint_seconds_ = 0;  // that the last one took
};

void attach_adapters(const TrainOptions& options, models::LoadedModel& loaded) {
  if (options.strategy != Strategy::lora) return;
  const double alpha = options.alpha.value_or(static_cast<double>(options.rank));
  models::attach_lora(loaded, {options.rank, alpha, options.targets, options.seed});
}

models::LoadedModel load(const TrainOptions& options, const io::Dataset& data) {
  models::LoadOptions load;
  load.model.classes = static_cast<int64_t>(data.classes.size());
  load.model.height = load.model.width = options.run.input_size;
  load.model.precision = resolve_precision(options.run);
  load.model.device = options.run.device;
  load.model.seed = options.seed;
  load.model.dropout = static_cast<float>(options.dropout);
  load.model.drop_path = static_cast<float>(options.drop_path);
  load.head = options.model.head;
  load.class_names = data.classes;
  if (options.strategy == Strategy::scratch) return models::scratch_model(options.model.model, load);
  return models::load_model(options.model.model, options.model.weights, load);
}

void check_sources(const TrainOptions& options) {
  if (options.model.model.empty() && options.model.weights.empty())
    fail(ErrorKind::bad_argument,
         "--model: missing, expected a name such as resnet50 (vtl-finetune models lists them)");
  if (options.strategy != Strategy::scratch && options.model.weights.empty())
    fail(ErrorKind::bad_argument,
         "--weights: missing; give a safetensors file or a model directory, or take --strategy scratch");
}

// The run folder, and what it holds of a run to continue.
struct Output {
  std::optional<RunFolder> folder;
  std::optional<Checkpoint> checkpoint;

  explicit Output(const TrainOptions& options) {
    if (options.out.empty()) return;
    check_run_folder(options);
    if (options.dry_run) return;
    folder.emplace(options);
    if (!folder->resumes()) return;
    checkpoint = read_checkpoint(folder->checkpoint());
    folder->cut(checkpoint->events_bytes, checkpoint->table_bytes);
  }
  ~Output() {
    if (folder) folder->abandon();
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  RunFolder* get() { return folder ? &*folder : nullptr; }
};

TrainResult run(const TrainOptions& options, models::LoadedModel model, io::Dataset data, Reporter& report,
                Output& output) {
  attach_adapters(options, model);
  Run run(options, std::move(model), std::move(data), report);
  if (output.checkpoint) run.resume(std::move(*output.checkpoint));
  return run();
}

}  // namespace

TrainResult train(const TrainOptions& options, const Callbacks& callbacks) {
  validate(options);
  check_sources(options);
  const RunScopes scopes(options.run);
  Output output(options);
  Reporter report(callbacks, output.get());
  io::Dataset data = io::open_dataset(options.data.string(), {options.val_split / 100, options.seed});
  for (const BadFile& file : io::drop_bad_files(data, options.max_bad / 100)) report(file);
  models::LoadedModel loaded = load(options, data);
  choose_crop(loaded, options.run);
  return run(options, std::move(loaded), std::move(data), report, output);
}

TrainResult train(const TrainOptions& options, models::LoadedModel model, io::Dataset data,
                  const Callbacks& callbacks) {
  validate(options);
  const RunScopes scopes(options.run);
  Output output(options);
  Reporter report(callbacks, output.get());
  return run(options, std::move(model), std::move(data), report, output);
}

}  // namespace vtl::finetune
