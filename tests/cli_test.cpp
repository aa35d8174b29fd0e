// The program as a user meets it: what it prints where, and which code it returns for what went wrong.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "vtl/core/rng.h"
#include "vtl/models/pretrained.h"
#include "vtl/tests/harness/temp_dir.h"

#if defined(VTL_FINETUNE)

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Outcome {
  int code;
  std::string out, err;

  json object() const { return json::parse(out); }
};

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// A small picture, brighter at the top for one class and at the bottom for the other, as a portable pixmap.
void draw(const fs::path& path, bool top, uint32_t number) {
  constexpr int side = 40;
  vtl::RandomSequence random(7, vtl::RandomStream::demo, top, number);
  std::string text = "P6\n40 40\n255\n";
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side * 3; ++x) text.push_back(static_cast<char>(((y < side / 2) == top ? 150 : 40) + random.below(60)));
  write_file(path, text);
}

// One world for all cases: pictures, weights, and the program.
class World {
 public:
  World() {
    for (uint32_t i = 0; i < 12; ++i)
      for (const bool top : {true, false}) {
        const std::string folder = top ? "top" : "bottom";
        draw(data() / (i < 8 ? "train" : "val") / folder / ("picture" + std::to_string(i) + ".ppm"), top, i);
      }
    vtl::models::LoadOptions options;
    options.model.classes = 3;
    options.model.height = options.model.width = 32;
    vtl::models::save_model(vtl::models::scratch_model("resnet18", options), root() / "weights");
  }

  fs::path root() const { return dir_.path(); }
  fs::path data() const { return root() / "data"; }
  fs::path weights() const { return root() / "weights" / "model.safetensors"; }
  std::string model() const { return " --model resnet18 --weights " + weights().string() + " --input-size 32 "; }
  std::string train() const { return "train " + data().string() + model() + "--epochs 2 --batch-size 8 "; }

  Outcome run(const std::string& arguments) const {
    const std::string out = (root() / "stdout").string(), err = (root() / "stderr").string();
    return shell(VTL_FINETUNE " " + arguments + " >" + out + " 2>" + err + " </dev/null");
  }

  // The program, with signals sent while it makes steps into `out`.
  Outcome interrupt(const std::string& arguments, const std::string& out, const std::string& kill) const {
    return shell("(" VTL_FINETUNE " " + arguments + " --out " + out + " >stdout 2>stderr </dev/null & pid=$!; n=0; " +
                 "until grep -q '\"event\":\"step\"' " + out + "/metrics.jsonl 2>grep.err || [ $n -gt 600 ]; do " +
                 "n=$((n+1)); sleep 0.05; done; " + kill + "; wait $pid)");
  }
  // Sends SIGTERM when `text` stands on stderr.
  Outcome terminate(const std::string& arguments, const std::string& text) const {
    return shell("{ :>stderr; " VTL_FINETUNE " " + arguments + " >stdout 2>stderr </dev/null & p=$!; for i in $(seq 300); do grep -q '" + text +
                 "' stderr && break; sleep 0.1; done; kill -TERM $p; wait $p; }");
  }

 private:
  Outcome shell(const std::string& command) const {
    const fs::path out = root() / "stdout", err = root() / "stderr";
    const int status = std::system(("cd " + root().string() + " && " + command).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out), read_file(err)};
  }

  vtl::test::TempDir dir_;
};

World& world() {
  static World instance;
  return instance;
}

// The program ends with `code`, says each of `words` on stderr, and says the same as JSON when asked.
void refuses(const std::string& arguments, int code, const std::vector<std::string>& words) {
  INFO("vtl-finetune ", arguments);
  const Outcome plain = world().run(arguments);
  CHECK(plain.code == code);
  CHECK(plain.out.empty());
  for (const auto& word : words) CHECK_MESSAGE(plain.err.find(word) != std::string::npos, "\"", word, "\" is missing in: ", plain.err);
  CHECK(std::count(plain.err.begin(), plain.err.end(), '\n') <= 12);

  const Outcome structured = world().run(arguments + " --json");
  CHECK(structured.code == code);
  REQUIRE_FALSE(structured.out.empty());
  const json error = structured.object().at("error");
  CHECK(error.at("kind").is_string());
  CHECK(error.at("message").is_string());
  CHECK(error.at("problems").is_array());
}

fs::path garbage(const std::string& name, const std::string& text) {
  const fs::path path = world().root() / name;
  write_file(path, text);
  return path;
}

std::string with_weights(const fs::path& weights) {
  return "train " + world().data().string() + " --model resnet18 --weights " + weights.string();
}

}  // namespace

TEST_CASE("cli: without a command the help is on stderr and the code is 2") {
  const Outcome outcome = world().run("");
  CHECK(outcome.code == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find("Examples:") != std::string::npos);
}

TEST_CASE("cli: help of every command begins with examples") {
  for (const std::string command : {"train", "eval", "predict", "features", "models", "inspect", "doctor", "demo"}) {
    INFO(command);
    const Outcome outcome = world().run(command + " --help");
    CHECK(outcome.code == 0);
    const size_t examples = outcome.out.find("Examples:");
    CHECK(examples != std::string::npos);
    CHECK(examples < outcome.out.find("--help"));
  }
}

TEST_CASE("cli: a misspelt command, flag or value gets the nearest name") {
  refuses("trian x", 2, {"trian", "train"});
  refuses(world().train() + "--bach-size 4", 2, {"--bach-size", "--batch-size"});
  refuses(world().train() + "--strategy fulll", 2, {"--strategy", "fulll", "full"});
  refuses(world().train() + "--optimizer adam", 2, {"--optimizer", "adamw"});
}

TEST_CASE("cli: what comes in a later version is refused by name") {
  for (const std::string flag : {"--loss focal", "--loss bce", "--sampler balanced", "--mixup 0.2", "--cutmix 1", "--ema 0.99", "--schedule onecycle"})
    refuses(world().train() + flag, 2, {flag.substr(0, flag.find(' '))});
}

TEST_CASE("cli: numbers out of range are named with their flag") {
  refuses(world().train() + "--lr -1", 2, {"--lr"});
  refuses(world().train() + "--lr nan", 2, {"--lr"});
  refuses(world().train() + "--strategy lora --rank 0", 2, {"--rank"});
  refuses("train " + world().data().string() + world().model() + "--batch-size 0", 2, {"--batch-size"});
  refuses("train " + world().data().string() + world().model() + "--batch-size 100000000000000000000", 2, {"--batch-size"});
}

TEST_CASE("cli: data that is not there or not enough is bad data") {
  refuses("train nowhere" + world().model(), 3, {"nowhere"});
  fs::create_directories(world().root() / "hollow/train/empty");
  draw(world().root() / "hollow/train/full/a.ppm", true, 0);
  refuses("train hollow" + world().model(), 3, {"empty"});
  draw(world().root() / "single/train/only/a.ppm", true, 0);
  refuses("train single" + world().model(), 3, {"class"});
}

TEST_CASE("cli: models and weights that do not fit are bad models") {
  refuses("train " + world().data().string() + " --model resnet81 --weights " + world().weights().string(), 4, {"resnet81", "resnet18"});
  refuses("train " + world().data().string() + " --model vit_tiny_patch16_224 --weights " + world().weights().string(), 4,
          {"vit_tiny_patch16_224", "resnet18"});
  const std::string whole = read_file(world().weights());
  refuses(with_weights(garbage("cut.safetensors", whole.substr(0, whole.size() / 2))), 4, {"cut.safetensors"});
  refuses(with_weights(garbage("noise.safetensors", std::string(5000, 'x'))), 4, {"noise.safetensors"});
  refuses(with_weights(garbage("empty.safetensors", "")), 4, {"empty.safetensors"});
  refuses(with_weights(garbage("model.pth", "PK\x03\x04" + std::string(200, '\0'))), 4, {"model.pth", "safetensors", "torch.load"});
}

TEST_CASE("cli: output that cannot be written, or holds another run, is refused before anything is done") {
  write_file(world().root() / "file", "text");
  refuses(world().train() + "--out file/run", 7, {"file"});
  const Outcome first = world().run(world().train() + "--strategy head --augment none --out once");
  REQUIRE_MESSAGE(first.code == 0, first.err);
  const auto before = fs::last_write_time(world().root() / "once/summary.json");
  refuses(world().train() + "--strategy full --out once", 2, {"once"});
  CHECK(fs::last_write_time(world().root() / "once/summary.json") == before);
}

TEST_CASE("cli: a GIF named .jpg is reported and left out") {
  const fs::path folder = world().root() / "gif";
  fs::copy(world().data(), folder, fs::copy_options::recursive);
  write_file(folder / "train/top/moving.jpg", "GIF89a" + std::string(100, '\0'));
  const Outcome outcome = world().run("train " + folder.string() + world().model() + "--epochs 2 --strategy head --augment none --out gif-run --json");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  CHECK(outcome.err.find("moving.jpg") != std::string::npos);
  CHECK(outcome.err.find("GIF") != std::string::npos);
  CHECK(read_file(world().root() / "gif-run/metrics.jsonl").find("bad_file") != std::string::npos);

  const Outcome prediction = world().run("predict gif-run " + (folder / "train/top/moving.jpg").string() + " " +
                                         (folder / "val/top/picture8.ppm").string() + " --json");
  CHECK(prediction.code == 3);
  CHECK(prediction.object().at("predictions").at(0).contains("error"));
  CHECK(prediction.object().at("predictions").at(1).contains("label"));
}

TEST_CASE("cli: train, eval, predict, features and inspect work together") {
  const Outcome trained = world().run(world().train() + "--strategy lora --augment none --out whole --json");
  REQUIRE_MESSAGE(trained.code == 0, trained.err);
  CHECK(trained.object() == json::parse(read_file(world().root() / "whole/summary.json")));
  for (const char* file : {"run.json", "metrics.jsonl", "metrics.csv", "best/config.json", "best/model.safetensors", "last/model.safetensors",
                           "adapter/adapter_config.json", "adapter/adapter_model.safetensors"})
    CHECK_MESSAGE(fs::exists(world().root() / "whole" / file), file);

  const Outcome evaluated = world().run("eval whole data --json");
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(evaluated.object().at("images") == 8);
  CHECK(evaluated.object().at("confusion").size() == 2);

  const Outcome predicted = world().run("predict whole data/val/top/picture8.ppm --logits --json");
  REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
  CHECK(predicted.object().at("classes") == json({"bottom", "top"}));
  CHECK(predicted.object().at("predictions").at(0).at("logits").size() == 2);

  const Outcome extracted = world().run("features whole data --out features.csv --json");
  REQUIRE_MESSAGE(extracted.code == 0, extracted.err);
  CHECK(extracted.object().at("width") == 512);

  const Outcome model = world().run("inspect whole/best --json");
  REQUIRE_MESSAGE(model.code == 0, model.err);
  CHECK(model.object().at("model") == "resnet18");
  const Outcome adapter = world().run("inspect whole/adapter --json");
  REQUIRE_MESSAGE(adapter.code == 0, adapter.err);
  CHECK(adapter.object().at("kind") == "adapter");
}

TEST_CASE("cli: a result that cannot be printed is an error") {
  for (const std::string gone : {">/dev/full", ">&-"})
    for (const std::string command : {"models ", "models --json ", "train --help ", "predict weights data/val/top/picture8.ppm --json "}) {
      INFO(command, gone);
      CHECK(world().run(command + "2>nowhere " + gone + "; exit $?; :").code == 7);
      CHECK(read_file(world().root() / "nowhere").find("standard output") != std::string::npos);
    }
}

TEST_CASE("cli: a signal ends what cannot be continued") {
  std::string list = "path,label\n";
  for (int i = 0; i < 50000; ++i) list += "data/val/top/picture8.ppm,0\n";
  write_file(world().root() / "long.csv", list);
  CHECK(world().terminate("eval weights long.csv --input-size 40", "note").code == 128 + 15);
  CHECK(world().terminate("demo --out stopped-demo", "pretraining").code == 130);
}

TEST_CASE("cli: features are CSV whatever the names, and --out is tried before the work") {
  draw(world().root() / "quoted/q\"u,ote/a.ppm", true, 0);
  REQUIRE(world().run("features weights quoted --out quoted.csv").code == 0);
  const std::string table = read_file(world().root() / "quoted.csv");
  CHECK(table.find("a.ppm\",\"q\"\"u,ote\",") != std::string::npos);
  refuses("features weights nowhere --out nowhere/features.csv", 7, {"nowhere/features.csv"});
}

TEST_CASE("cli: inspect knows a checkpoint, and a run folder's models are named") {
  const std::string endless = "train data" + world().model() + "--batch-size 8 --strategy head --epochs 100000 --out endless";
  REQUIRE(world().terminate(endless, "epoch   1/").code == 75);
  CHECK(world().run("inspect endless/checkpoints/last.safetensors --json").object().at("kind") == "checkpoint");
  fs::create_directories(world().root() / "outer");
  fs::copy(world().root() / "weights", world().root() / "outer/best", fs::copy_options::recursive);
  refuses("inspect outer", 4, {"outer", "\"best\""});
}

TEST_CASE("cli: a dry run plans and touches nothing") {
  const Outcome outcome = world().run(world().train() + "--dry-run --out never");
  CHECK(outcome.code == 0);
  CHECK(outcome.err.find("parameters learn") != std::string::npos);
  CHECK_FALSE(fs::exists(world().root() / "never"));
}

TEST_CASE("cli: a dry run says as JSON what it planned, and refuses a folder that a real run refuses") {
  const Outcome outcome = world().run(world().train() + "--dry-run --json");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  CHECK(outcome.object().at("event") == "plan");
  CHECK(outcome.object().at("steps") == 4);
  CHECK_FALSE(outcome.object().contains("stop"));
  write_file(world().root() / "taken/run.json", "{}");
  write_file(world().root() / "taken/summary.json", "{}");
  refuses(world().train() + "--dry-run --out taken", 2, {"--out", "taken"});
}

TEST_CASE("cli: run.json says with which command the run was begun") {
  const Outcome outcome = world().run(world().train() + "--strategy head --max-steps 1 --out told");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const json command = json::parse(read_file(world().root() / "told/run.json")).at("command");
  REQUIRE(command.is_array());
  CHECK(command.at(1) == "train");
  CHECK(command.back() == "told");
}

TEST_CASE("cli: eval leaves out what the run trained on where the run made the split") {
  const std::string all = (world().data() / "train").string();  // 16 pictures in class folders
  const Outcome trained = world().run("train " + all + world().model() + "--strategy head --epochs 1 --augment none --out splitting");
  REQUIRE_MESSAGE(trained.code == 0, trained.err);
  const Outcome held_out = world().run("eval splitting data/train/../train --json");
  REQUIRE_MESSAGE(held_out.code == 0, held_out.err);
  CHECK(held_out.object().at("images") == 4);
  CHECK(held_out.object().at("trained_on") == 12);
  CHECK(held_out.err.find("12 pictures that the run trained on") != std::string::npos);
  CHECK(world().run("eval splitting splitting/split.csv --json").object().at("images") == 4);
  CHECK(world().run("eval splitting data --json").object().at("images") == 8);
  CHECK(world().run("eval splitting/best data/train --json").object().at("images") == 16);
}

TEST_CASE("cli: SIGTERM stops a run in order, the same command goes on, and a second signal ends it at once") {
  const std::string train = "train " + world().data().string() + world().model() + "--epochs 300 --batch-size 8 --strategy full";
  const Outcome stopped = world().interrupt(train, "signalled", "kill -TERM $pid");
  CHECK_MESSAGE(stopped.code == 75, stopped.err);
  CHECK(fs::exists(world().root() / "signalled/checkpoints/last.safetensors"));
  CHECK_FALSE(fs::exists(world().root() / "signalled/summary.json"));

  // Both signals wait for the process when it goes on.
  const Outcome resumed =
      world().interrupt(train, "signalled", "n=0; until grep -q 'continues after' stderr || [ $n -gt 600 ]; do n=$((n+1)); sleep 0.05; done; "
                                          "kill -STOP $pid; kill -TERM $pid; kill -INT $pid; kill -CONT $pid");
  CHECK_MESSAGE(resumed.code == 130, resumed.err);
  CHECK(resumed.err.find("continues after step") != std::string::npos);
}

TEST_CASE("cli: models and doctor print one JSON object") {
  const json models = world().run("models --json").object();
  CHECK(models.at("models").size() > 20);
  const json doctor = world().run("doctor --json").object();
  for (const char* key : {"version", "backends", "cpu", "libraries"}) CHECK(doctor.contains(key));
}

#endif
