// Learning-rate schedules, by transformers' names and formulas (get_scheduler).
#pragma once
#include <cstdint>
#include <string>

namespace ithaca {

struct ScheduleOptions {
  std::string type = "linear";  // linear | cosine | constant | constant_with_warmup
  double learning_rate = 5e-5;
  int64_t warmup_steps = 0;  // where 0, warmup_ratio * total_steps rounded up
  double warmup_ratio = 0;
  int64_t total_steps = 0;
};

// The rate of step n (from 0: the rate used by the first update). UserError names the known types.
double learning_rate_at(const ScheduleOptions& options, int64_t n);

}  // namespace ithaca
