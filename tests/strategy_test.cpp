#include "vtl/tools/finetune/strategy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/models/lora.h"

using namespace vtl;
using namespace vtl::finetune;

namespace {

models::LoadedModel make(const char* name, int64_t side = 32) {
  models::LoadOptions options;
  options.model.height = options.model.width = side;
  options.class_names = {"ant", "bee", "cow"};
  return models::scratch_model(name, options);
}

TrainOptions with(Strategy strategy) {
  TrainOptions options;
  options.strategy = strategy;
  return options;
}

std::set<std::string> learning_names(const Phase& phase) {
  std::set<std::string> names;
  for (const optim::Group& group : phase.groups)
    for (const optim::Member& member : group.members) names.insert(member.name);
  return names;
}

struct Names : layers::Visitor {
  std::set<std::string> all;
  std::set<std::string> learning;
  int64_t frozen_norms = 0, norms = 0;
  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    all.insert(name);
    if (parameter.learns()) learning.insert(name);
  }
  void on_batchnorm(const std::string&, layers::BatchNorm& norm) override {
    ++norms;
    frozen_norms += norm.frozen;
  }
};

Names look(const models::Model& model) {
  Names names;
  model.visit(names);
  return names;
}

// The operations that one training step of the phase records.
std::vector<std::string> recorded(const models::LoadedModel& loaded) {
  Tape tape;
  TapeScope recording(tape);
  TrainingScope training;
  const auto& size = loaded.model.facts.preprocessing;
  const Tensor images = Tensor::zeros({2, size.height, size.width, 3}, DType::f32, Device::cpu());
  const std::vector<int64_t> labels = {0, 2};
  layers::softmax_xent(loaded.model.forward(images), Tensor::from<int64_t>(labels, {2}));
  std::vector<std::string> ops;
  for (size_t i = 0; i < tape.size(); ++i) ops.emplace_back(tape.op(i));
  tape.clear();
  return ops;
}

}  // namespace

TEST_CASE("head trains the classifier and records nothing before it") {
  models::LoadedModel loaded = make("resnet18");
  const std::vector<Phase> plan = phases(with(Strategy::head), loaded.model);
  REQUIRE(plan.size() == 1);
  CHECK(learning_names(plan[0]) == std::set<std::string>{"fc.weight", "fc.bias"});
  CHECK(plan[0].groups.size() == 1);
  CHECK(plan[0].groups[0].name == "head");
  CHECK(plan[0].frozen_stages == loaded.model.head_stage());
  CHECK(describe_batchnorm(plan[0], loaded.model) == "frozen");
  apply(plan[0], loaded);
  const Names names = look(loaded.model);
  CHECK(names.learning == learning_names(plan[0]));
  CHECK(names.frozen_norms == names.norms);
  CHECK(recorded(loaded) == std::vector<std::string>{"linear", "softmax_xent"});
}

TEST_CASE("full and scratch train everything with batch statistics") {
  models::LoadedModel loaded = make("resnet18");
  for (const Strategy strategy : {Strategy::full, Strategy::scratch}) {
    const std::vector<Phase> plan = phases(with(strategy), loaded.model);
    REQUIRE(plan.size() == 1);
    CHECK(learning_names(plan[0]) == look(loaded.model).all);
    CHECK(plan[0].frozen_stages == 0);
    CHECK(describe_batchnorm(plan[0], loaded.model) == "train");
  }
}

TEST_CASE("partial trains the last blocks, the final norm and the head") {
  models::LoadedModel loaded = make("resnet18");
  TrainOptions options = with(Strategy::partial);
  options.unfreeze = 1;
  const Phase phase = phases(options, loaded.model).at(0);
  for (const std::string& name : learning_names(phase))
    CHECK((name.starts_with("layer4.1.") || name.starts_with("fc.")));
  CHECK(phase.learns("layer4.1.conv2.weight"));
  CHECK_FALSE(phase.learns("layer4.0.conv1.weight"));
  apply(phase, loaded);
  CHECK(look(loaded.model).norms - look(loaded.model).frozen_norms == 2);
  options.unfreeze = 0;
  CHECK(learning_names(phases(options, loaded.model).at(0)) == std::set<std::string>{"fc.weight", "fc.bias"});
  options.unfreeze = 9;
  CHECK_THROWS_AS(phases(options, loaded.model), Error);

  const models::LoadedModel vit = make("vit_tiny_patch16_224");
  options.unfreeze = 2;
  const Phase last = phases(options, vit.model).at(0);
  CHECK(last.learns("blocks.10.attn.qkv.weight"));
  CHECK(last.learns("norm.weight"));
  CHECK_FALSE(last.learns("blocks.9.mlp.fc2.bias"));
  CHECK_FALSE(last.learns("pos_embed"));
  CHECK(describe_batchnorm(last, vit.model) == "none");
}

TEST_CASE("two stages train the head on fixed pictures, then everything at lower rates") {
  models::LoadedModel loaded = make("resnet18");
  TrainOptions options = with(Strategy::two_stage);
  options.epochs = 5;
  const std::vector<Phase> plan = phases(options, loaded.model);
  REQUIRE(plan.size() == 2);
  CHECK(plan[0].epochs == 2);
  CHECK(plan[1].epochs == 3);
  CHECK_FALSE(plan[0].augment);
  CHECK(plan[1].augment);
  CHECK(describe_batchnorm(plan[0], loaded.model) == "frozen");
  CHECK(describe_batchnorm(plan[1], loaded.model) == "train");
  REQUIRE(plan[1].groups.size() == 2);
  CHECK(plan[1].groups[0].name == "backbone");
  CHECK(plan[1].groups[0].learning_rate < plan[0].groups[0].learning_rate);
  CHECK(plan[1].groups[1].learning_rate < plan[0].groups[0].learning_rate);
}

TEST_CASE("lora trains adapters and the whole head, with frozen statistics") {
  models::LoadedModel loaded = make("resnet18");
  models::attach_lora(loaded, {});
  const Phase phase = phases(with(Strategy::lora), loaded.model).at(0);
  const std::set<std::string> names = learning_names(phase);
  CHECK(names.count("fc.weight") == 1);
  CHECK(names.size() > 20);
  for (const std::string& name : names) CHECK((models::is_adapter_name(name) || name.starts_with("fc.")));
  CHECK(phase.groups[0].name == "adapter");
  CHECK(describe_batchnorm(phase, loaded.model) == "frozen");
}

TEST_CASE("bitfit trains biases and the head") {
  models::LoadedModel vit = make("vit_tiny_patch16_224");
  const Phase phase = phases(with(Strategy::bitfit), vit.model).at(0);
  for (const std::string& name : learning_names(phase)) CHECK((name.ends_with("bias") || name.starts_with("head.")));
  CHECK(phase.learns("patch_embed.proj.bias"));
  CHECK(phase.learns("blocks.0.attn.qkv.bias"));
  CHECK(phase.learns("head.weight"));
  CHECK_FALSE(phase.learns("blocks.0.norm1.weight"));
}

TEST_CASE("--batchnorm overrides the strategy") {
  models::LoadedModel loaded = make("resnet18");
  TrainOptions options = with(Strategy::full);
  options.batchnorm = BatchNormChoice::frozen;
  CHECK(describe_batchnorm(phases(options, loaded.model)[0], loaded.model) == "frozen");
  options = with(Strategy::head);
  options.batchnorm = BatchNormChoice::train;
  const Phase phase = phases(options, loaded.model)[0];
  CHECK(describe_batchnorm(phase, loaded.model) == "train");
  CHECK(phase.frozen_stages == 0);
}

TEST_CASE("layer decay counts blocks from the head, the stem last") {
  const models::LoadedModel vit = make("vit_tiny_patch16_224");
  const Phase phase = phases(with(Strategy::full), vit.model).at(0);
  for (const optim::Group& group : phase.groups)
    for (const optim::Member& member : group.members) {
      if (member.name.starts_with("head") || member.name.starts_with("norm.")) CHECK(member.distance == 0);
      if (member.name.starts_with("blocks.11.")) CHECK(member.distance == 1);
      if (member.name.starts_with("blocks.0.")) CHECK(member.distance == 12);
      if (member.name == "pos_embed" || member.name == "cls_token" || member.name.starts_with("patch_embed"))
        CHECK(member.distance == 13);
    }
}
