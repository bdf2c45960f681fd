#include "ithaca/train/run_state.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
Json RunState::to_json() const {
  return {{"step", step},         {"tokens_seen", tokens_seen},   {"total_flops", total_flops},
          {"loss_sum", loss_sum}, {"log_loss_sum", log_loss_sum}, {"log_labels", log_labels}};
}

RunState RunState::from_json(const Json& saved, const std::string& source) {
  try {
    const Json& json = saved.at("run");
    RunState state;
    state.step = json.at("step").get<int64_t>();
    state.tokens_seen = json.at("tokens_seen").get<int64_t>();
    state.total_flops = json.at("total_flops").get<double>();
    state.loss_sum = json.at("loss_sum").get<double>();
    state.log_loss_sum = json.at("log_loss_sum").get<double>();
    state.log_labels = json.at("log_labels").get<int64_t>();
    return state;
  } catch (const Json::exception& error) {
    throw UserError(str(source, ": not a training state of this program: ", error.what()));
  }
}

}  // namespace ithaca
