// The registry against timm: names and shapes of every tensor, facts of every tag.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "vtl/tests/harness/shared.h"
#include "vtl/core/error.h"
#include "vtl/io/file.h"
#include "vtl/io/json.h"
#include "vtl/io/sha256.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/registry.h"

namespace vtl::test {
namespace {

using nlohmann::json;

const json& timm() {
  static const json golden =
      io::read_json_file(std::filesystem::path(VTL_SOURCE_DIR) / "tests/golden/timm_models.json");
  return golden.at("models");
}

// Names and shapes as files have them.
class Shapes : public layers::Visitor {
 public:
  std::map<std::string, Shape> shapes;

  explicit Shapes(const models::Model& model) { model.visit(*this); }
  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    shapes[name] = parameter.file_shape();
  }
  void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override {
    shapes[name + ".running_mean"] = shapes[name + ".running_var"] = norm.weight.shape();
    shapes[name + ".num_batches_tracked"] = {};
  }

  std::string sha256() const {
    std::string lines;
    for (const auto& [name, shape] : shapes) {
      lines += name;
      for (const int64_t extent : shape.dims()) lines += " " + std::to_string(extent);
      lines += "\n";
    }
    io::Sha256 hash;
    hash.update(std::as_bytes(std::span(lines)));
    return hash.finish();
  }
};

TEST_CASE("model_keys_equal_timms") {
  size_t known = 0;
  for (const auto& [name, facts] : timm().items()) {
    CAPTURE(name);
    REQUIRE(models::is_known(name));
    ++known;
    const models::Model model = models::describe_model(name);
    const Shapes ours(model);
    CHECK(models::count_parameters(model).total == facts.at("params").get<int64_t>());
    CHECK(ours.shapes.size() == facts.at("tensors").get<size_t>());
    CHECK(ours.sha256() == facts.at("keys_sha256").get<std::string>());
  }
  CHECK(models::list_models().size() == known);
}

TEST_CASE("model_facts_equal_timms_for_every_tag") {
  for (const auto& [name, facts] : timm().items()) {
    CAPTURE(name);
    CHECK(models::list_tags(name).front() == facts.at("default_tag").get<std::string>());
    json tags = facts.at("tags");
    tags[facts.at("default_tag").get<std::string>()];
    CHECK(models::list_tags(name).size() == tags.size());
    for (const auto& [tag, difference] : tags.items()) {
      CAPTURE(tag);
      json want = facts.at("preprocessing");
      if (difference.is_object()) want.update(difference);
      const models::ModelFacts ours = models::describe_model(name + "." + tag).facts;
      const models::Preprocessing& p = ours.preprocessing;
      CHECK(ours.classes == want.at("num_classes").get<int64_t>());
      CHECK(json{3, p.height, p.width} == want.at("input_size"));
      CHECK(p.crop_pct == want.at("crop_pct").get<double>());
      CHECK(models::name(p.crop_mode) == want.at("crop_mode").get<std::string>());
      CHECK(models::name(p.interpolation) == want.at("interpolation").get<std::string>());
      for (size_t i = 0; i < 3; ++i) {
        CHECK(p.mean[i] == want.at("mean")[i].get<float>());
        CHECK(p.std[i] == want.at("std")[i].get<float>());
      }
      const json& licence = want.at("license");
      CHECK(ours.licence == (licence.is_null() ? std::string() : licence.get<std::string>()));
      CHECK(ours.first_conv == want.at("first_conv").get<std::string>());
      const json& classifier = want.at("classifier");
      CHECK(ours.classifier == (classifier.is_array() ? classifier[0] : classifier).get<std::string>());
    }
  }
}

TEST_CASE("constants_that_shapes_cannot_tell_equal_timms") {
  const std::map<std::string, std::string> spelling{
      {"gelu", "gelu"}, {"quickgelu", "gelu_quick"}, {"relu", "relu"}, {"relu6", "relu6"}};
  for (const auto& [name, facts] : timm().items()) {
    CAPTURE(name);
    const json& args = facts.at("args");
    const models::Constants ours = models::describe_model(name).facts.constants;
    CHECK(ours.norm_eps == args.at("norm_eps").get<double>());
    CHECK(ours.activation == spelling.at(args.at("act").get<std::string>()));
    CHECK(ours.pool == args.at("global_pool").get<std::string>());
    CHECK(ours.padding == args.value("padding", "symmetric"));
  }
}

TEST_CASE("stages_are_stem_blocks_neck_head_and_hold_every_parameter_once") {
  for (const char* name :
       {"resnet18", "resnet50d", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "tf_efficientnet_lite0"}) {
    CAPTURE(name);
    const models::Model model = models::describe_model(name);
    const auto& stages = model.stages();
    REQUIRE(stages.size() > 3);
    CHECK(stages.front().kind == models::Stage::Kind::stem);
    CHECK(stages[stages.size() - 2].kind == models::Stage::Kind::neck);
    CHECK(stages.back().kind == models::Stage::Kind::head);
    CHECK(model.head_stage() == stages.size() - 1);
    for (size_t i = 1; i + 2 < stages.size(); ++i) CHECK(stages[i].kind == models::Stage::Kind::block);
    struct Once : layers::Visitor {
      std::set<std::string> names;
      void on_parameter(const std::string& name, layers::Parameter&) override { CHECK(names.insert(name).second); }
    } once;
    model.visit(once);
  }
}

TEST_CASE("first_values_depend_on_seed_and_name_only") {
  models::ModelOptions options;
  options.classes = 3;
  options.seed = 5;
  struct Values : layers::Visitor {
    std::map<std::string, Tensor> values;
    explicit Values(const models::Model& model) { model.visit(*this); }
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      values[name] = parameter.value();
    }
  };
  const models::Model a = models::create_model("resnet18", options), b = models::create_model("resnet18", options);
  options.seed = 6;
  const models::Model c = models::create_model("resnet18", options);
  Values va(a), vb(b), vc(c);
  CHECK(va.values.at("fc.weight").f32()[7] == vb.values.at("fc.weight").f32()[7]);
  CHECK(va.values.at("fc.weight").f32()[7] != vc.values.at("fc.weight").f32()[7]);
  CHECK(va.values.at("layer1.0.bn1.weight").f32()[0] == 1.0f);
  CHECK(va.values.at("layer1.0.bn2.weight").f32()[0] == 0.0f);
  CHECK_FALSE(va.values.at("fc.weight").slot());
}

TEST_CASE("names_that_are_not_known_get_the_nearest_ones") {
  const auto message = [](const char* name) {
    try {
      models::describe_model(name);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::bad_model);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message("resnet51").find("resnet50") != std::string::npos);
  CHECK(message("vit_tiny_patch16_224.augreg").find("augreg_in21k_ft_in1k") != std::string::npos);
  CHECK_FALSE(models::is_known("resnet18.nothing"));
  models::ModelOptions options;
  options.height = 100;
  CHECK_THROWS_AS(models::describe_model("vit_tiny_patch16_224", options), Error);
}

TEST_CASE("names_and_shapes_equal_the_shared_list") {
  const std::filesystem::path list = shared_path("vectors/timm_keys.json");
  if (list.empty()) return;
  const json models = json::parse(io::read_text_file(list, 64 << 20)).at("models");
  for (const auto& [name, facts] : models.items()) {
    CAPTURE(name);
    models::ModelOptions options;
    const Shapes ours(models::describe_model(name, options));
    const json& state = facts.at("state_dict");
    CHECK(ours.shapes.size() == state.size());
    for (const auto& [tensor, shape_and_type] : state.items()) {
      CAPTURE(tensor);
      REQUIRE(ours.shapes.count(tensor));
      const auto dims = shape_and_type[0].get<std::vector<int64_t>>();
      CHECK(ours.shapes.at(tensor) == Shape(std::span<const int64_t>(dims)));
    }
  }
}

}  // namespace
}  // namespace vtl::test
