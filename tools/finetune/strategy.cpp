#include "vtl/tools/finetune/strategy.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "vtl/core/error.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/lora.h"

namespace vtl::finetune {
namespace {

using Kind = models::Stage::Kind;

// A parameter with what a strategy asks of it.
struct Entry {
  optim::Member member;
  size_t stage = 0;
  Kind kind = Kind::stem;
  bool adapter = false;  // A or B of a low-rank update
  bool bias = false;
};

class Collector : public layers::Visitor {
 public:
  std::vector<Entry> entries;
  size_t stage = 0;
  Kind kind = Kind::stem;
  int distance = 0;

  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    const bool adapter = models::is_adapter_name(name);
    entries.push_back({{name, &parameter, distance}, stage, kind, adapter, name.ends_with("bias") && !adapter});
  }
};

// Blocks between a stage and the head: 0 for head and neck, the last block 1, the stem one more than the first block.
std::vector<int> distances(const models::Model& model) {
  const auto& stages = model.stages();
  std::vector<int> result(stages.size(), 0);
  int blocks = 0;
  for (size_t i = stages.size(); i-- > 0;) {
    if (stages[i].kind == Kind::block) result[i] = ++blocks;
    if (stages[i].kind == Kind::stem) result[i] = blocks + 1;
  }
  return result;
}

std::vector<Entry> collect(const models::Model& model) {
  Collector collector;
  const std::vector<int> distance = distances(model);
  for (size_t i = 0; i < model.stages().size(); ++i) {
    collector.stage = i;
    collector.kind = model.stages()[i].kind;
    collector.distance = distance[i];
    model.stages()[i].visit(collector);
  }
  return std::move(collector.entries);
}

class BatchNormFinder : public layers::Visitor {
 public:
  std::vector<layers::BatchNorm*> found;
  void on_batchnorm(const std::string&, layers::BatchNorm& norm) override { found.push_back(&norm); }
};

std::vector<layers::BatchNorm*> batchnorms(const models::Stage& stage) {
  BatchNormFinder finder;
  stage.visit(finder);
  return std::move(finder.found);
}

// What learns in a phase, and what the group that is not the head's is called.
struct Choice {
  std::string name, group = "backbone";
  int64_t epochs = 0;
  bool augment = true;
  double head_rate = 0, rate = 0;
  std::function<bool(const Entry&)> learns;
  // Which stages use batch statistics, unless the user says otherwise.
  std::function<bool(size_t stage)> batchnorm_trains;
};

Phase make_phase(const TrainOptions& options, const models::Model& model, const std::vector<Entry>& entries,
                 const Choice& choice) {
  Phase phase;
  phase.name = choice.name;
  phase.epochs = choice.epochs;
  phase.augment = choice.augment && options.augment != io::AugmentPreset::none;
  optim::Group backbone{choice.group, choice.rate, options.weight_decay, options.layer_decay, {}};
  optim::Group head{"head", choice.head_rate, options.weight_decay, options.layer_decay, {}};

  const size_t stages = model.stages().size();
  size_t first_changing = stages;
  for (const Entry& entry : entries) {
    if (!choice.learns(entry)) continue;
    (entry.kind == Kind::head ? head : backbone).members.push_back(entry.member);
    first_changing = std::min(first_changing, entry.stage);
  }
  for (optim::Group* group : {&backbone, &head})
    if (!group->members.empty()) phase.groups.push_back(std::move(*group));

  for (size_t i = 0; i < stages; ++i) {
    const bool has_any = !batchnorms(model.stages()[i]).empty();
    const bool trains = options.batchnorm == BatchNormChoice::train ||
                        (options.batchnorm == BatchNormChoice::by_strategy && choice.batchnorm_trains(i));
    phase.batchnorm_trains.push_back(has_any && trains);
    if (has_any && trains) first_changing = std::min(first_changing, i);
  }
  // Dropout in a frozen stage draws anew each step.
  phase.frozen_stages = options.drop_path > 0 ? 0 : first_changing;
  return phase;
}

std::vector<Phase> checked(std::vector<Phase> phases) {
  for (const Phase& phase : phases)
    VTL_CHECK(!phase.groups.empty(), "strategy: nothing of this model learns in the phase \"", phase.name, "\"");
  return phases;
}

}  // namespace

bool Phase::learns(const std::string& parameter) const {
  for (const optim::Group& group : groups)
    for (const optim::Member& member : group.members)
      if (member.name == parameter) return true;
  return false;
}

std::vector<Phase> phases(const TrainOptions& options, const models::Model& model) {
  const std::vector<Entry> entries = collect(model);
  const std::vector<int> distance = distances(model);
  const int64_t epochs = options.epochs.value_or(default_epochs(options.strategy));
  const LearningRates rates = learning_rates(options);
  const auto head_only = [](const Entry& e) { return e.kind == Kind::head; };
  const auto everything = [](const Entry&) { return true; };
  const auto always = [](size_t) { return true; };
  const auto never = [](size_t) { return false; };
  const auto make = [&](Choice choice) { return make_phase(options, model, entries, choice); };

  switch (options.strategy) {
    case Strategy::head:
      return checked({make({"head", "", epochs, true, rates.head, 0, head_only, never})});
    case Strategy::full:
    case Strategy::scratch:
      return checked({make({"all", "backbone", epochs, true, rates.head, rates.backbone, everything, always})});
    case Strategy::two_stage: {
      // The first stage only brings the new head to where it does not shake the backbone; pictures as validation sees
      // them let it run on features that are computed once. A rate of its own: that of the strategy head, unless one
      // was given.
      TrainOptions as_head = options;
      as_head.strategy = Strategy::head;
      const int64_t first = std::max<int64_t>(1, epochs / 2);
      return checked({make({"head", "", first, false, learning_rates(as_head).head, 0, head_only, never}),
                      make({"all", "backbone", epochs - first, true, rates.head, rates.backbone, everything, always})});
    }
    case Strategy::partial: {
      const auto blocks = std::count_if(model.stages().begin(), model.stages().end(),
                                        [](const models::Stage& s) { return s.kind == Kind::block; });
      VTL_CHECK(options.unfreeze <= blocks, "--unfreeze: ", options.unfreeze, ", but ", model.facts.name, " has ",
                blocks, " blocks");
      const auto in_reach = [&, n = options.unfreeze](size_t stage) {
        return model.stages()[stage].kind != Kind::stem && distance[stage] <= n;
      };
      const std::string phase_name = concat("last ", options.unfreeze, options.unfreeze == 1 ? " block" : " blocks");
      return checked({make({phase_name, "backbone", epochs, true, rates.head, rates.backbone,
                            [&](const Entry& e) { return in_reach(e.stage); }, in_reach})});
    }
    case Strategy::lora:
      return checked({make({"adapters", "adapter", epochs, true, rates.head, rates.backbone,
                            [](const Entry& e) { return e.adapter || e.kind == Kind::head; }, never})});
    case Strategy::bitfit:
      return checked({make({"biases", "bias", epochs, true, rates.head, rates.backbone,
                            [](const Entry& e) { return e.bias || e.kind == Kind::head; }, never})});
  }
  fail(ErrorKind::internal, "strategy: unknown");
}

std::string describe_batchnorm(const Phase& phase, const models::Model& model) {
  int64_t with = 0, training = 0;
  for (size_t i = 0; i < model.stages().size(); ++i) {
    with += !batchnorms(model.stages()[i]).empty();
    training += phase.batchnorm_trains[i];
  }
  if (with == 0) return "none";
  if (training == 0) return "frozen";
  if (training == with) return "train";
  return concat("train in ", training, " of ", with, " stages");
}

void apply(const Phase& phase, models::LoadedModel& loaded) {
  models::set_learning(loaded,
                       [&](const std::string& parameter, const layers::Parameter&) { return phase.learns(parameter); });
  const auto& stages = loaded.model.stages();
  for (size_t i = 0; i < stages.size(); ++i)
    for (layers::BatchNorm* norm : batchnorms(stages[i])) norm->frozen = !phase.batchnorm_trains[i];
}

}  // namespace vtl::finetune
