#include "vtl/optim/groups.h"

#include <cmath>

namespace vtl::optim {

bool decays(const layers::Parameter& parameter) { return parameter.role() == layers::Role::matrix; }

double weight_decay(const Group& group, const Member& member) {
  return decays(*member.parameter) ? group.weight_decay : 0.0;
}

double learning_rate_factor(const Group& group, const Member& member) {
  return std::pow(group.layer_decay, member.distance);
}

int64_t count_elements(const Group& group) {
  int64_t count = 0;
  for (const Member& member : group.members) count += member.parameter->shape().numel();
  return count;
}

}  // namespace vtl::optim
