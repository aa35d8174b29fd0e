#include "vtl/optim/schedule.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/error.h"

using namespace vtl;
using namespace vtl::optim;

TEST_CASE("cosine falls from the peak along half a cosine") {
  const Schedule schedule{ScheduleKind::cosine, 10, 0};
  CHECK(rate_factor(schedule, 0) == 1.0);
  CHECK(rate_factor(schedule, 5) == doctest::Approx(0.5));
  for (int64_t step = 0; step < 10; ++step)
    CHECK(rate_factor(schedule, step) ==
          doctest::Approx(0.5 + 0.5 * std::cos(3.14159265358979 * static_cast<double>(step) / 10)));
}

TEST_CASE("linear falls evenly and never reaches zero within the run") {
  const Schedule schedule{ScheduleKind::linear, 4, 0};
  CHECK(rate_factor(schedule, 0) == 1.0);
  CHECK(rate_factor(schedule, 1) == 0.75);
  CHECK(rate_factor(schedule, 3) == 0.25);
}

TEST_CASE("step takes a tenth after each third") {
  const Schedule schedule{ScheduleKind::step, 9, 0};
  CHECK(rate_factor(schedule, 2) == 1.0);
  CHECK(rate_factor(schedule, 3) == doctest::Approx(0.1));
  CHECK(rate_factor(schedule, 6) == doctest::Approx(0.01));
  CHECK(rate_factor(schedule, 8) == doctest::Approx(0.01));
}

TEST_CASE("warmup rises to the peak and the rest of the schedule begins there") {
  for (const ScheduleKind kind :
       {ScheduleKind::cosine, ScheduleKind::linear, ScheduleKind::step, ScheduleKind::constant}) {
    const Schedule schedule{kind, 13, 3};
    CHECK(rate_factor(schedule, 0) == doctest::Approx(0.25));
    CHECK(rate_factor(schedule, 1) == doctest::Approx(0.5));
    CHECK(rate_factor(schedule, 2) == doctest::Approx(0.75));
    CHECK(rate_factor(schedule, 3) == 1.0);
  }
}

TEST_CASE("constant stays and steps after the last count as the last") {
  CHECK(rate_factor({ScheduleKind::constant, 5, 0}, 4) == 1.0);
  const Schedule schedule{ScheduleKind::cosine, 5, 1};
  CHECK(rate_factor(schedule, 100) == rate_factor(schedule, 4));
  CHECK(rate_factor(schedule, 4) > 0);
}

TEST_CASE("warmup is counted in steps or in per cent of all steps") {
  CHECK(warmup_steps({5, Warmup::Unit::percent}, 200) == 10);
  CHECK(warmup_steps({5, Warmup::Unit::percent}, 35) == 2);
  CHECK(warmup_steps({0, Warmup::Unit::percent}, 200) == 0);
  CHECK(warmup_steps({7, Warmup::Unit::steps}, 200) == 7);
  CHECK(warmup_steps({700, Warmup::Unit::steps}, 200) == 200);
  CHECK(rate_factor({ScheduleKind::cosine, 4, 4}, 3) == doctest::Approx(0.8));
  CHECK_THROWS_AS(warmup_steps({-1, Warmup::Unit::steps}, 200), Error);
  CHECK_THROWS_AS(rate_factor({ScheduleKind::cosine, 0, 0}, 0), Error);
}
