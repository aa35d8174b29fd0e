// Learning rate over the steps of a run: pure functions, so that a resumed run continues exactly.
#pragma once

#include <cstdint>

namespace vtl::optim {

enum class ScheduleKind { cosine, linear, step, constant };
// "cosine", "linear", "step", "constant"
const char* name(ScheduleKind kind);

// How long the rate rises: steps, or per cent of all steps.
struct Warmup {
  enum class Unit { steps, percent };
  double amount = 5;
  Unit unit = Unit::percent;
};
// Rounded to the nearest step; never more than total_steps.
int64_t warmup_steps(const Warmup& warmup, int64_t total_steps);

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;
};

// What the peak rate is multiplied by at optimizer step 0 .. total_steps - 1; later steps count as the last one. With W
// warmup steps, T steps in all and u = (step - W) / (T - W):
//   step < W: (step + 1) / (W + 1);  then cosine: (1 + cos(pi u)) / 2;  linear: 1 - u;  constant: 1;
//   step: a tenth after each third, 10^-floor(3 u).
double rate_factor(const Schedule& schedule, int64_t step);

}  // namespace vtl::optim
