// eval, predict, features: a model over images, without learning.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "vtl/core/error.h"
#include "vtl/io/csv.h"
#include "vtl/tools/cli/commands.h"
#include "vtl/tools/cli/exit_code.h"
#include "vtl/tools/cli/flags.h"
#include "vtl/tools/cli/terminal.h"
#include "vtl/tools/finetune/evaluate.h"
#include "vtl/tools/finetune/json.h"

namespace vtl::cli {
namespace {

using namespace finetune;

// WHAT is a run folder or model directory; with --model and --weights there is none, and all words are DATA or IMAGEs.
struct Subject {
  std::vector<std::string> words;
  std::string what;  // taken off the words
  ModelOptions model;
  RunOptions run;

  bool named() const { return !model.weights.empty() || !model.model.empty(); }
};

void add_subject(CLI::App& command, Subject& subject, const char* rest) {
  command.add_option("WHAT", subject.words, std::string("a run folder or model directory (not with --model), then ") + rest)->required();
  command.add_option("--model", subject.model.model, "registry name of the weights")->type_name("NAME");
  command.add_option("--weights", subject.model.weights, "safetensors file, index.json or model directory")->type_name("FILE");
  add_flags(command, run_flags(), subject.run);
}

models::LoadedModel load(Subject& subject, Terminal& terminal) {
  if (subject.named()) {
    if (subject.model.weights.empty()) fail(ErrorKind::bad_argument, "--model: needs --weights FILE beside it");
    terminal.progress("loading " + subject.model.weights.string());
    return open_model(subject.model, subject.run);
  }
  const std::string& what = subject.what = subject.words.front();
  subject.words.erase(subject.words.begin());
  if (subject.words.empty()) fail(ErrorKind::bad_argument, "WHAT: \"", what, "\" is followed by nothing to work on");
  terminal.progress("loading " + what);
  return open_model(what, subject.run);
}

models::LoadedModel open(Subject& subject, Terminal& terminal) {
  models::LoadedModel model = load(subject, terminal);
  for (const std::string& note : model.report.notes) terminal.line("note       " + note);
  return model;
}

std::string one_data(const Subject& subject) {
  if (subject.words.size() != 1)
    fail(ErrorKind::bad_argument, "DATA: ", subject.words.size(), " folders given, expected one");
  return subject.words.front();
}

Progress progress_on(Terminal& terminal) {
  return [&terminal](int64_t done, int64_t all) { terminal.progress(human_count(done) + " of " + human_count(all) + " images"); };
}

void print_evaluation(const Metrics& metrics) {
  std::cout << "images     " << human_count(metrics.images) << '\n'
            << "accuracy   " << per_cent(metrics.accuracy) << '\n'
            << "top-5      " << per_cent(metrics.top5) << '\n'
            << "loss       " << fixed(metrics.loss, 4) << '\n'
            << "macro-F1   " << fixed(metrics.macro_f1, 4) << '\n';
  if (metrics.auc) std::cout << "ROC-AUC    " << fixed(*metrics.auc, 4) << '\n';
  size_t width = 5;
  for (const auto& row : metrics.per_class) width = std::max(width, row.name.size());
  std::cout << '\n' << left("class", width) << "  precision  recall      F1  support\n";
  size_t without = 0;
  for (const auto& row : metrics.per_class) {
    if (row.support == 0 && ++without) continue;
    std::cout << left(row.name, width) << right(fixed(row.precision, 4), 11) << right(fixed(row.recall, 4), 8) << right(fixed(row.f1, 4), 8)
              << right(std::to_string(row.support), 9) << '\n';
  }
  if (without > 0) std::cout << without << " classes without images are not listed\n";
}

void warn_of(Terminal& terminal, const std::vector<BadFile>& files) {
  for (const BadFile& file : files) terminal.warn("left out " + file.path + ": " + file.reason);
}

void write_features(std::ostream& out, const Features& features) {
  out << "path,label";
  for (int64_t c = 0; c < features.width; ++c) out << ",f" << c;
  out << '\n';
  out.precision(9);
  for (size_t i = 0; i < features.paths.size(); ++i) {
    const std::string& label = features.classes[static_cast<size_t>(features.labels[i])];
    out << io::csv_quoted(features.paths[i]) << ',' << io::csv_quoted(label);
    for (int64_t c = 0; c < features.width; ++c) out << ',' << features.values[i * static_cast<size_t>(features.width) + static_cast<size_t>(c)];
    out << '\n';
  }
}

}  // namespace

void add_eval(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("eval",
                                         "Metrics of a model on labelled images.\n\nExamples:\n"
                                         "  vtl-finetune eval runs/photos-two-stage photos/\n"
                                         "  vtl-finetune eval --model resnet18 --weights resnet18.safetensors indices/ --json\n\n"
                                         "The classes of DATA are the model's by name; of a model without names by index (folders 0, 1, ...).");
  auto subject = std::make_shared<Subject>();
  add_subject(*command, *subject, "DATA");
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([subject, &invocation] {
    invocation.action = [subject, &invocation] {
      Terminal terminal;
      const auto model = open(*subject, terminal);
      const Evaluation evaluation = evaluate(model, one_data(*subject), subject->run, progress_on(terminal), subject->what);
      if (evaluation.trained_on > 0)
        terminal.line("note       " + human_count(evaluation.trained_on) + " pictures that the run trained on are left out (" + subject->what +
                      "/split.csv)");
      warn_of(terminal, evaluation.bad_files);
      terminal.clear();
      if (invocation.json)
        std::cout << to_json(evaluation) << '\n';
      else
        print_evaluation(evaluation.metrics);
      return 0;
    };
  });
}

void add_predict(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("predict",
                                         "Labels and probabilities of images.\n\nExamples:\n"
                                         "  vtl-finetune predict runs/photos-two-stage picture.jpg\n"
                                         "  vtl-finetune predict --model resnet18 --weights resnet18.safetensors *.jpg --json --logits");
  auto subject = std::make_shared<Subject>();
  auto logits = std::make_shared<bool>(false);
  auto top = std::make_shared<int64_t>(5);
  add_subject(*command, *subject, "IMAGEs or folders of images");
  command->add_flag("--logits", *logits, "the raw scores, too");
  command->add_option("--top", *top, "how many labels for each image")->check(CLI::Range(int64_t{1}, int64_t{1000000}));
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([subject, logits, top, &invocation] {
    invocation.action = [subject, logits, top, &invocation] {
      Terminal terminal;
      const auto model = open(*subject, terminal);
      const std::vector<std::filesystem::path> paths(subject->words.begin(), subject->words.end());
      const auto predictions = predict(model, paths, subject->run, *top, progress_on(terminal));
      terminal.clear();
      bool failed = false;
      for (const Prediction& prediction : predictions) {
        if (prediction.error.empty()) continue;
        failed = true;
        terminal.warn(prediction.path + ": " + prediction.error);
      }
      if (invocation.json) {
        std::cout << to_json(model.model.facts, predictions, {.logits = *logits}) << '\n';
      } else {
        for (const Prediction& prediction : predictions) {
          if (!prediction.error.empty()) continue;
          std::cout << prediction.path << '\n';
          for (const Ranked& ranked : prediction.top) std::cout << "  " << right(per_cent(ranked.probability), 8) << "  " << ranked.label << '\n';
          if (*logits) {
            std::cout << "  logits";
            for (const float value : prediction.logits) std::cout << ' ' << value;
            std::cout << '\n';
          }
        }
      }
      return failed ? kBadData : 0;
    };
  });
}

void add_features(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("features",
                                         "What the head sees of each image, as CSV.\n\nExamples:\n"
                                         "  vtl-finetune features runs/photos-two-stage photos/ --out features.csv\n"
                                         "  vtl-finetune features --model resnet18 --weights resnet18.safetensors photos/ --out features.csv");
  auto subject = std::make_shared<Subject>();
  auto out = std::make_shared<std::filesystem::path>("features.csv");
  add_subject(*command, *subject, "DATA");
  command->add_option("--out", *out, "the file to write (default: features.csv)")->type_name("FILE");
  command->add_flag("--json", invocation.json, "print one JSON object");
  command->callback([subject, out, &invocation] {
    invocation.action = [subject, out, &invocation] {
      Terminal terminal;
      const auto model = open(*subject, terminal);
      const std::string data = one_data(*subject);
      std::ofstream file(*out, std::ios::binary);
      const auto check_file = [&] {
        if (!file) fail(ErrorKind::io, "--out: ", out->string(), " cannot be written; name a file in a folder that is there and has room");
      };
      check_file();
      const Features found = features(model, data, subject->run, progress_on(terminal));
      warn_of(terminal, found.bad_files);
      write_features(file, found);
      file.close();
      check_file();
      terminal.clear();
      if (invocation.json)
        std::cout << nlohmann::ordered_json{{"path", out->string()}, {"images", found.paths.size()}, {"width", found.width}}.dump() << '\n';
      else
        std::cout << found.paths.size() << " images, " << found.width << " features each, in " << out->string() << '\n';
      return 0;
    };
  });
}

}  // namespace vtl::cli
