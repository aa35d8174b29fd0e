#include "vtl/tools/finetune/plan.h"

#include <algorithm>

#include "vtl/core/allocator.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/tape.h"
#include "vtl/models/lora.h"
#include "vtl/tools/finetune/inputs.h"
#include "vtl/tools/finetune/memory.h"
#include "vtl/tools/finetune/snapshot.h"

namespace vtl::finetune {
namespace {

constexpr int64_t kMaxCacheBytes = int64_t{1} << 30;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t count_elements(const Phase& phase) {
  int64_t count = 0;
  for (const optim::Group& group : phase.groups) count += optim::count_elements(group);
  return count;
}

PlanPhase describe(const Phase& phase, const PhaseLength& length, const models::Model& model, bool cached) {
  PlanPhase plan{phase.name, length.epochs, length.steps, describe_batchnorm(phase, model), cached, {}, 0};
  for (const optim::Group& group : phase.groups) {
    double lowest = 1;
    for (const optim::Member& member : group.members)
      lowest = std::min(lowest, optim::learning_rate_factor(group, member));
    plan.groups.push_back({group.name, group.learning_rate, lowest * group.learning_rate, group.weight_decay,
                           static_cast<int64_t>(group.members.size()), optim::count_elements(group)});
  }
  plan.trainable_parameters = count_elements(phase);
  return plan;
}

int64_t area(const models::Model& model) {
  return model.facts.preprocessing.height * model.facts.preprocessing.width;
}

// What one picture adds to memory in a step with what learns now, measured: batch statistics that the measurement moves
// are put back.
size_t picture_bytes(const models::LoadedModel& loaded) {
  const models::Model& model = loaded.model;
  const Snapshot statistics(loaded, {});
  const auto& size = model.facts.preprocessing;
  const Tensor image = Tensor::zeros({1, size.height, size.width, 3}, compute_dtype(model.precision), model.device);
  {
    // What layers keep from the first use on does not count.
    NoTapeScope no_tape;
    TrainingScope evaluating(false);
    model.forward(image);
  }
  const StepState no_step;
  const Tensor step =
      Tensor::from_bytes(std::as_bytes(std::span(&no_step, 1)), {sizeof no_step}, DType::u8, model.device);
  size_t kept = 0, most = 0;
  {
    Tape tape;
    TapeScope recording(tape);
    TrainingScope training;
    StepScope with_step(static_cast<const StepState*>(step.data()));
    const size_t before = memory_stats(model.device).live_bytes;
    reset_peak_memory(model.device);
    const Tensor output = model.forward(image);
    const MemoryStats after = memory_stats(model.device);
    kept = after.live_bytes - before;
    most = after.peak_bytes - before;
  }
  statistics.restore(loaded);
  // Backward holds the gradients of a few activations beside them; what comes and goes leaves gaps.
  return std::max(kept * 5 / 4, kept + (most - kept) * 3 / 2);
}

// A picture far beyond the size that the model was made for is not tried out: it could take all memory there is. A model
// of its own size tells how much it will be.
size_t picture_bytes(const TrainOptions& options, const models::LoadedModel& loaded) {
  constexpr int64_t kMeasured = 4;
  const models::ModelFacts& facts = loaded.model.facts;
  const int64_t usual = area(models::describe_model(facts.name)), asked = area(loaded.model);
  if (asked <= kMeasured * usual) return picture_bytes(loaded);
  models::LoadOptions load;
  load.model.precision = loaded.model.precision;
  load.model.device = loaded.model.device;
  models::LoadedModel small = models::scratch_model(facts.name, load);
  if (models::has_lora(loaded.model)) models::attach_lora(small, {options.rank, 1, options.targets, 0});
  apply(finetune::phases(options, small.model).back(), small);
  return picture_bytes(small) * static_cast<size_t>(asked / usual);
}

// Of the process. Throws out_of_memory when it is far more than the machine has.
size_t estimate_memory(const TrainOptions& options, const models::LoadedModel& loaded, int64_t trainable) {
  const size_t activations = static_cast<size_t>(options.run.batch_size) * picture_bytes(options, loaded);
  // Gradient, moments, and the master of what has a working copy.
  const int64_t arenas = options.optimizer == optim::OptimizerKind::adamw ? 4 : 3;
  const size_t optimizer = static_cast<size_t>(arenas * trainable) * sizeof(float);
  const size_t resident = resident_memory_bytes(), needed = resident + optimizer + activations;
  const size_t available = loaded.model.device.kind == DeviceKind::cpu ? available_memory_bytes() : 0;
  if (available > 0 && needed > resident + available / 4 * 5)
    fail(ErrorKind::out_of_memory, "train: a step with batches of ", options.run.batch_size, " pictures of ",
         area(loaded.model), " pixels needs about ", needed >> 20, " MiB, but this machine has ",
         (resident + available) >> 20, " MiB; take a smaller --batch-size or --input-size");
  return needed;
}

}  // namespace

std::vector<PhaseLength> phase_lengths(const TrainOptions& options, const std::vector<Phase>& phases,
                                       int64_t train_images) {
  const int64_t batches = divide_up(train_images, options.run.batch_size);
  const int64_t per_epoch = divide_up(batches, options.accumulate);
  int64_t left = options.max_steps.value_or(INT64_MAX);
  std::vector<PhaseLength> lengths;
  for (const Phase& phase : phases) {
    const int64_t steps = std::min(left, phase.epochs * per_epoch);
    lengths.push_back({divide_up(steps, per_epoch), per_epoch, steps});
    left -= steps;
  }
  return lengths;
}

bool is_cached(const Phase& phase, const models::Model& model, int64_t pictures) {
  if (phase.augment || phase.frozen_stages == 0) return false;
  return boundary_bytes(model, phase.frozen_stages) <= kMaxCacheBytes / std::max<int64_t>(1, pictures);
}

std::vector<int64_t> class_counts(const std::vector<io::Sample>& samples, size_t classes) {
  std::vector<int64_t> counts(classes, 0);
  for (const io::Sample& sample : samples) ++counts[static_cast<size_t>(std::get<io::ClassIndex>(sample.target))];
  return counts;
}

Plan make_plan(const TrainOptions& options, models::LoadedModel& loaded, const io::Dataset& data,
               const std::vector<Phase>& phases) {
  const models::Model& model = loaded.model;
  Plan plan;
  plan.model = model.facts.name;
  plan.tag = model.facts.tag;
  plan.strategy = name(options.strategy);
  plan.precision = name(model.precision);
  plan.device = to_string(model.device);
  plan.optimizer = name(options.optimizer);
  plan.schedule = name(options.schedule);
  plan.augment = io::name(options.augment);
  plan.classes = data.classes;
  plan.class_counts = class_counts(data.train, data.classes.size());
  plan.train_images = static_cast<int64_t>(data.train.size());
  plan.val_images = static_cast<int64_t>(data.val.size());
  plan.height = model.facts.preprocessing.height;
  plan.width = model.facts.preprocessing.width;
  plan.batch_size = options.run.batch_size;
  plan.accumulate = options.accumulate;
  plan.threads = compute_threads();
  plan.workers = options.run.workers >= 0 ? options.run.workers : io::default_workers(options.run.device);
  plan.notes = loaded.report.notes;
  if (data.made_split)
    plan.notes.push_back(concat("no validation images were given: ", plan.val_images, " were set aside"));

  if (!data.ignored.empty())
    plan.notes.push_back(concat(data.ignored.size(), " files or links in class folders were left out, the first: ",
                                data.ignored[0]));

  const auto [smallest, largest] = std::minmax_element(plan.class_counts.begin(), plan.class_counts.end());
  plan.monitor = *largest > 3 * *smallest ? "macro_f1" : "accuracy";

  apply(phases.back(), loaded);
  plan.estimated_memory_bytes = estimate_memory(options, loaded, count_elements(phases.back()));

  const std::vector<PhaseLength> lengths = phase_lengths(options, phases, plan.train_images);
  for (size_t i = 0; i < phases.size(); ++i) {
    plan.phases.push_back(describe(phases[i], lengths[i], model, is_cached(phases[i], model, plan.train_images)));
    plan.epochs += lengths[i].epochs;
    plan.steps += lengths[i].steps;
    plan.warmup_steps += optim::warmup_steps(options.warmup, lengths[i].steps);
    plan.trainable_parameters = std::max(plan.trainable_parameters, plan.phases.back().trainable_parameters);
  }
  plan.total_parameters = models::count_parameters(model).total;
  return plan;
}

}  // namespace vtl::finetune
