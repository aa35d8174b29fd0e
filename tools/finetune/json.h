// Results as JSON text, in the contract's form. One line each, UTF-8.
#pragma once

#include <string>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/tools/finetune/evaluate.h"
#include "vtl/tools/finetune/events.h"
#include "vtl/tools/finetune/trainer.h"

namespace vtl::finetune {

std::string to_json(const Event& event);         // a line of metrics.jsonl
std::string to_json(const TrainResult& result);  // summary.json
std::string to_json(const Evaluation& evaluation);
std::string to_json(const Metrics& metrics);
// What to_json(Metrics) wrote. Throws nlohmann's exceptions through: for text that we wrote ourselves.
Metrics metrics_from_json(const std::string& text);
struct PredictionJson {
  bool logits = false;
};
std::string to_json(const models::ModelFacts& model, const std::vector<Prediction>& predictions,
                    PredictionJson options = {});
std::string to_json(const Error& error);                // {"error": {"kind", "message", "problems"}}
std::string options_json(const TrainOptions& options);  // every flag with its effective value

}  // namespace vtl::finetune
