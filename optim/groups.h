// Which parameters share a learning rate, and what decays.
#pragma once

#include <string>
#include <vector>

#include "vtl/layers/parameter.h"

namespace vtl::optim {

// A learning parameter. `distance` counts the blocks between it and the head: head and final norm 0, the last block 1,
// the stem (with norm_pre and position embeddings) one more than the first block.
struct Member {
  std::string name;
  layers::Parameter* parameter = nullptr;
  int distance = 0;
};

struct Group {
  std::string name;          // "head", "backbone", "adapter"
  double learning_rate = 0;  // the peak; a schedule multiplies it
  double weight_decay = 0;   // of the members that decay
  double layer_decay = 1;    // the rate of a member is learning_rate * layer_decay^distance
  std::vector<Member> members;
};

// Matrices decay; norm scales, biases, tokens and position embeddings do not.
bool decays(const layers::Parameter& parameter);
double weight_decay(const Group& group, const Member& member);
double learning_rate_factor(const Group& group, const Member& member);
int64_t count_elements(const Group& group);

}  // namespace vtl::optim
