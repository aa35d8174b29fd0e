#include "vtl/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "vtl/core/error.h"

namespace vtl::optim {

const char* name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::cosine:
      return "cosine";
    case ScheduleKind::linear:
      return "linear";
    case ScheduleKind::step:
      return "step";
    case ScheduleKind::constant:
      return "constant";
  }
  return "constant";
}

int64_t warmup_steps(const Warmup& warmup, int64_t total_steps) {
  VTL_CHECK(warmup.amount >= 0, "schedule: a warmup of ", warmup.amount, ", expected zero or more");
  const double steps =
      warmup.unit == Warmup::Unit::percent ? warmup.amount / 100.0 * static_cast<double>(total_steps) : warmup.amount;
  if (steps >= static_cast<double>(total_steps)) return total_steps;
  return std::llround(steps);
}

double rate_factor(const Schedule& schedule, int64_t step) {
  const int64_t total = schedule.total_steps, warmup = schedule.warmup_steps;
  VTL_CHECK(step >= 0 && total >= 1 && warmup >= 0 && warmup <= total, "schedule: step ", step, " of ", total, " with ",
            warmup, " warmup steps");
  step = std::min(step, total - 1);
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  const int64_t done = step - warmup, span = total - warmup;
  const double u = static_cast<double>(done) / static_cast<double>(span);
  switch (schedule.kind) {
    case ScheduleKind::cosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * u));
    case ScheduleKind::linear:
      return 1.0 - u;
    case ScheduleKind::step:
      return std::pow(0.1, static_cast<double>(3 * done / span));
    case ScheduleKind::constant:
      return 1.0;
  }
  return 1.0;
}

}  // namespace vtl::optim
