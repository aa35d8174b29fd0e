// What a user may name as weights: one file, an index of several, a directory; and the JSON and files beside them.
#include "vtl/io/weight_file.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/io/json.h"
#include "vtl/io/safetensors_writer.h"
#include "vtl/io/sha256.h"

namespace {

using namespace vtl;
using namespace vtl::io;
using vtl::test::TempDir;

// A file with one F32 tensor of two values for each name; the first value is `first`, then first + 1, ...
void put_weights(const std::filesystem::path& path, const std::vector<std::string>& names, float first = 0,
                 const std::map<std::string, std::string>& metadata = {{"format", "pt"}}) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < names.size(); ++i) values.push_back({first + static_cast<float>(i), -1.0f});
  std::vector<TensorToWrite> tensors;
  for (size_t i = 0; i < names.size(); ++i) tensors.push_back(tensor_from_memory(names[i], Shape{2}.dims(), values[i]));
  write_safetensors(path, tensors, metadata);
}

float first_value(const WeightFile& weights, const std::string& name) {
  std::vector<float> values(2);
  weights.read_as_f32(weights.at(name), values);
  return values[0];
}

std::string fault_of(const std::filesystem::path& path) {
  try {
    WeightFile weights(path);
  } catch (const SafetensorsError& error) { return name(error.fault()); } catch (const Error& error) {
    return vtl::name(error.kind());
  }
  return "accept";
}

std::string message_of(const std::filesystem::path& path) {
  try {
    WeightFile weights(path);
  } catch (const Error& error) { return error.what(); }
  return "accept";
}

// Two shards, "a" and "c" in the first, "b" in the second.
struct Sharded {
  TempDir dir;
  std::filesystem::path index = dir / "model.safetensors.index.json";

  Sharded() {
    put_weights(dir / "m-1.safetensors", {"a", "c"}, 10, {{"format", "pt"}, {"part", "1"}});
    put_weights(dir / "m-2.safetensors", {"b"}, 20, {{"format", "pt"}, {"part", "2"}});
  }
  void put_index(const std::string& text) const { write_text_file(index, text); }
  void put_map(const std::string& members, const std::string& total_size = "24") const {
    put_index("{\"metadata\":{\"total_size\":" + total_size + "},\"weight_map\":{" + members + "}}");
  }
};

const std::string kMap = R"("a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors")";

}  // namespace

TEST_CASE("weights: a single file is listed and read") {
  const TempDir dir;
  put_weights(dir / "w.safetensors", {"b", "a"});
  const WeightFile weights(dir / "w.safetensors");
  REQUIRE(weights.size() == 2);
  CHECK(weights.name(0) == "a");
  CHECK(weights[1].name == "b");
  CHECK(first_value(weights, "b") == 0.0f);
  CHECK(first_value(weights, "a") == 1.0f);
  CHECK(!weights.find("c"));
  CHECK(!weights.config());
  CHECK(weights.warnings().empty());
  CHECK(weights.data_bytes() == 16);
  CHECK(weights.metadata("format") == "pt");
  CHECK(weights.sha256() == sha256(File(dir / "w.safetensors")));
  try {
    weights.at("head.weight");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK((error.kind() == ErrorKind::bad_model));
    CHECK(std::string(error.what()).find("\"head.weight\"") != std::string::npos);
  }
}

TEST_CASE("weights: the files of an index are one list in the order of names") {
  const Sharded sharded;
  sharded.put_map(kMap);
  for (const auto& path : {sharded.index, sharded.dir.path()}) {
    const WeightFile weights(path);
    REQUIRE(weights.size() == 3);
    CHECK(weights.name(1) == "b");
    CHECK(weights[1].shard == 1);
    CHECK(weights[2].shard == 0);
    CHECK(first_value(weights, "a") == 10.0f);
    CHECK(first_value(weights, "b") == 20.0f);
    CHECK(first_value(weights, "c") == 11.0f);
    CHECK(weights.data_bytes() == 24);
    // What the files contradict each other about is left out.
    CHECK((weights.metadata() == std::map<std::string, std::string>{{"format", "pt"}}));
    CHECK(!weights.metadata("part"));
    CHECK(weights.metadata("format") == "pt");
    CHECK(weights.warnings().empty());
    CHECK(weights.sha256().size() == 64);
  }
  sharded.put_map(kMap, "25");
  CHECK(WeightFile(sharded.index).warnings()[0].find("total_size is 25") != std::string::npos);
}

TEST_CASE("weights: an index and its files agree on every tensor, and all problems are told at once") {
  const Sharded sharded;
  sharded.put_map(R"("a":"m-2.safetensors","b":"m-2.safetensors","d":"m-1.safetensors")");
  try {
    WeightFile weights(sharded.index);
    FAIL("no error");
  } catch (const SafetensorsError& error) {
    CHECK((error.fault() == SafetensorsFault::bad_index));
    CHECK((error.problems() ==
           std::vector<std::string>{"tensor \"a\" is not in \"m-2.safetensors\"",
                                    "tensor \"d\" is not in \"m-1.safetensors\"",
                                    "tensor \"a\" is in \"m-1.safetensors\", but the index says \"m-2.safetensors\"",
                                    "tensor \"c\" in \"m-1.safetensors\" is not in the index"}));
  }
  put_weights(sharded.dir / "m-2.safetensors", {"a", "b"});
  sharded.put_map(kMap);
  CHECK(fault_of(sharded.index) == "BadIndex");
}

TEST_CASE("weights: an index names plain files beside it") {
  const Sharded sharded;
  for (const char* bad : {"../m-1.safetensors", "/etc/passwd", "sub\\\\m-1.safetensors", ".", "..", "",
                          "m-1.safetensors\\u0000", "missing.safetensors"}) {
    sharded.put_map("\"a\":\"" + std::string(bad) + "\"");
    CAPTURE(bad);
    CHECK(fault_of(sharded.index) == "BadIndex");
  }
}

TEST_CASE("weights: an index follows the rules of strict JSON") {
  const Sharded sharded;
  const auto fault = [&](const std::string& text) {
    sharded.put_index(text);
    return fault_of(sharded.index);
  };
  CHECK(fault("{\"weight_map\":{" + kMap + "}}") == "accept");
  CHECK(fault("{\"x\":[1,{}],\"weight_map\":{" + kMap + "},\"metadata\":null}") == "accept");
  CHECK(fault("") == "HeaderNotJson");
  CHECK(fault("{") == "HeaderNotJson");
  CHECK(fault("[]") == "HeaderNotObject");
  CHECK(fault("{}") == "MissingField");
  CHECK(fault("{\"\xff\":1}") == "HeaderNotUtf8");
  CHECK(fault("{\"weight_map\":[]}") == "BadIndex");
  CHECK(fault("{\"weight_map\":{\"a\":1}}") == "BadIndex");
  CHECK(fault("{\"weight_map\":{" + kMap + ",\"\\u0061\":\"m-1.safetensors\"}}") == "DuplicateKey");
  CHECK(fault("{\"weight_map\":{" + kMap + "},\"weight_map\":{}}") == "DuplicateKey");
  CHECK(fault("{\"weight_map\":{" + kMap + "},\"metadata\":{\"total_size\":1,\"total_size\":1}}") == "DuplicateKey");
  CHECK(fault("{\"weight_map\":{" + kMap + "},\"metadata\":{\"total_size\":1.5}}") == "BadInteger");
  CHECK(fault("{\"weight_map\":{" + kMap + "},\"x\":[[[]]]}") == "HeaderTooDeep");
  // No tensors and no files.
  CHECK(fault("{\"weight_map\":{}}") == "accept");
}

TEST_CASE("weights: a directory gives its weights and its configuration") {
  const TempDir dir;
  CHECK(fault_of(dir.path()) == "bad_model");
  write_text_file(dir / "pytorch_model.bin", "x");
  write_text_file(dir / "other.safetensors", "x");
  CHECK(message_of(dir.path()).find("\"pytorch_model.bin\"") != std::string::npos);
  CHECK(message_of(dir.path()).find("\"other.safetensors\"") != std::string::npos);

  put_weights(dir / "model.safetensors", {"a"});
  CHECK(!WeightFile(dir.path()).config());
  write_text_file(dir / "config.json", "{\"architecture\":\"resnet18\"}\n");
  const WeightFile weights(dir.path());
  CHECK(weights.config() == "{\"architecture\":\"resnet18\"}\n");
  CHECK(weights.size() == 1);
  CHECK(weights.path() == dir.path());
  write_text_file(dir / "config.json", "{\"architecture\":");
  CHECK(fault_of(dir.path()) == "bad_model");
  CHECK(message_of(dir.path()).find((dir / "config.json").string()) == 0);
}

TEST_CASE("weights: a missing path is an io error that names it") {
  const TempDir dir;
  CHECK(fault_of(dir / "missing.safetensors") == "io");
  CHECK(fault_of(dir / "missing.index.json") == "io");
  CHECK(message_of(dir / "missing.safetensors").find((dir / "missing.safetensors").string()) != std::string::npos);
}

TEST_CASE("weights: a real model has its tensors and its configuration") {
  const auto path = test::shared_path("weights/tf_efficientnet_lite0");
  if (path.empty()) return;
  const WeightFile weights(path);
  CHECK(weights.config().has_value());
  CHECK((engine_shape(weights.at("classifier.weight")) == Shape{1000, 1280}));
  const TensorInfo variance = weights.at("bn1.running_var");
  std::vector<float> values(variance.count());
  weights.read_as_f32(variance, values);
  CHECK(std::all_of(values.begin(), values.end(), [](float value) { return value >= 0; }));
  for (int64_t i = 0; i < weights.size(); ++i)
    if (weights[i].dtype == FileDType::f32) CHECK(weights.count_non_finite(weights[i]) == 0);
}

TEST_CASE("json: values are read by key, and an error names the file, the key and what came") {
  const auto document =
      parse_json(R"({"name":"x","classes":3,"mean":[0.5,1],"flag":true,"none":null,"labels":["a","b"]})", "c.json");
  CHECK(json_get<std::string>(document, "name", "c.json") == "x");
  CHECK(json_get<int64_t>(document, "classes", "c.json") == 3);
  CHECK(json_get<double>(document, "classes", "c.json") == 3.0);
  CHECK((json_get<std::vector<double>>(document, "mean", "c.json") == std::vector<double>{0.5, 1.0}));
  CHECK((json_get<std::vector<std::string>>(document, "labels", "c.json") == std::vector<std::string>{"a", "b"}));
  CHECK(json_get<bool>(document, "flag", "c.json"));
  CHECK(json_get_or<int64_t>(document, "absent", "c.json", 7) == 7);
  CHECK(json_get_or<int64_t>(document, "none", "c.json", 7) == 7);

  const auto message = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const Error& error) {
      CHECK((error.kind() == ErrorKind::bad_model));
      return error.what();
    }
    return "";
  };
  CHECK(message([&] { json_get<int64_t>(document, "name", "c.json"); }) ==
        "c.json: \"name\" is \"\\\"x\\\"\", expected an integer");
  CHECK(message([&] { json_get<int64_t>(document, "absent", "c.json"); }) == "c.json: key \"absent\" is missing");
  CHECK(message([&] { json_get_or<bool>(document, "classes", "c.json", false); }).find("expected true or false") !=
        std::string::npos);
  CHECK(message([&] { json_get<std::vector<int64_t>>(document, "mean", "c.json"); }) != "");
  CHECK(message([&] { parse_json("{\"a\":1,\"a\":2}", "c.json"); }) == "c.json: key \"a\" stands twice in one object");
  CHECK(message([&] { parse_json("{\"a\":1", "c.json"); }).find("c.json: no valid JSON") == 0);
  CHECK(message([&] { parse_json("{\"a\":1} x", "c.json"); }) != "");
  CHECK(message([&] { parse_json(std::string(1'000'000, '['), "c.json"); }).find("deeper") != std::string::npos);
  CHECK(message([&] { parse_json("[] ", "c.json"); }) == "");
}

TEST_CASE("files: a durable file appears whole or not at all") {
  const TempDir dir;
  write_text_file(dir / "f", "old");
  {
    DurableFile file(dir / "f", 1000);
    file.write(std::string_view("new, but never committed"));
  }
  CHECK(read_text_file(dir / "f") == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);
  {
    DurableFile file(dir / "f", 1000);
    file.write(std::string_view("new"));
    file.commit();
  }
  CHECK(read_text_file(dir / "f") == "new");  // without the rest of what was reserved
  CHECK_THROWS_AS(read_text_file(dir / "f", 2), Error);
  std::filesystem::create_directory(dir / "d");
  CHECK_THROWS_AS(write_text_file(dir / "d", "x"), Error);
  CHECK_THROWS_AS(write_text_file(dir / "missing" / "f", "x"), Error);
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 2);
}
