#include "ithaca/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

int64_t warmup_of(const ScheduleOptions& options) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return static_cast<int64_t>(std::ceil(options.warmup_ratio * static_cast<double>(options.total_steps)));
}

}  // namespace

double learning_rate_at(const ScheduleOptions& options, int64_t n) {
  const bool known = options.type == "linear" || options.type == "cosine" || options.type == "constant" ||
                     options.type == "constant_with_warmup";
  if (!known)
    throw UserError(str("lr_scheduler_type: \"", options.type,
                        "\" is unknown; known are linear, cosine, constant, constant_with_warmup"));
  if (options.type == "constant") return options.learning_rate;
  const int64_t warmup = warmup_of(options);
  if (n < warmup) return options.learning_rate * static_cast<double>(n) / static_cast<double>(warmup);
  if (options.type == "constant_with_warmup") return options.learning_rate;
  const double length = static_cast<double>(std::max<int64_t>(1, options.total_steps - warmup));
  const double left = static_cast<double>(options.total_steps - n) / length;
  if (options.type == "linear") return options.learning_rate * std::max(0.0, left);
  const double progress = static_cast<double>(n - warmup) / length;
  return options.learning_rate * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace ithaca
