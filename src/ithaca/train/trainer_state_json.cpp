#include "ithaca/train/trainer_state_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr double kLargestWhole = 9007199254740992.0;  // 2^53: every whole number up to here is a double

Json number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

Json number_or_whole(double value) {
  if (value == std::round(value) && std::abs(value) <= kLargestWhole) return static_cast<int64_t>(value);
  return number(value);
}

Json to_json(const std::map<std::string, double>& values) {
  Json object = Json::object();
  for (const auto& [key, value] : values) object[key] = number_or_whole(value);
  return object;
}

Json history_entry(const StepRecord& record) {
  Json entry{{"step", record.current_steps}, {"epoch", number(record.epoch)}};
  if (record.loss) entry["loss"] = number(*record.loss);
  if (record.grad_norm) entry["grad_norm"] = number(*record.grad_norm);
  if (record.lr) entry["learning_rate"] = number(*record.lr);
  if (record.eval_loss) entry["eval_loss"] = number(*record.eval_loss);
  return entry;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string shown(const std::string& key, double value) {
  if (ends_with(key, "_runtime")) return clock_text(value);
  if (key == "total_flos") return count_text(value) + "FLOP";
  char text[48];
  std::snprintf(text, sizeof text, value == std::round(value) && std::abs(value) < 1e15 ? "%.0f" : "%.4f",
                value);
  return text;
}

}  // namespace

void write_trainer_state(const fs::path& file, const TrainerState& state, std::span<const StepRecord> history,
                         const std::optional<TrainResults>& results) {
  Json log = Json::array();
  for (const StepRecord& record : history) log.push_back(history_entry(record));
  if (results) {
    Json last = to_json(result_values(*results));
    last["step"] = state.global_step;
    log.push_back(std::move(last));
  }
  Json json{{"global_step", state.global_step},
            {"max_steps", state.max_steps},
            {"epoch", number(state.epoch)},
            {"num_train_epochs", number_or_whole(state.num_train_epochs)},
            {"train_batch_size", state.train_batch_size},
            {"num_input_tokens_seen", state.num_input_tokens_seen},
            {"total_flos", number(state.total_flos)},
            {"logging_steps", state.logging_steps},
            {"eval_steps", state.eval_steps},
            {"save_steps", state.save_steps},
            {"is_local_process_zero", true},
            {"is_world_process_zero", true},
            {"is_hyper_param_search", false},
            {"stateful_callbacks", Json::object()},
            {"log_history", std::move(log)}};
  for (const char* unused :
       {"best_global_step", "best_metric", "best_model_checkpoint", "trial_name", "trial_params"})
    json[unused] = nullptr;
  write_json_file(file, json, 2);
}

std::map<std::string, double> result_values(const TrainResults& results) {
  return {{"epoch", results.epoch},
          {"total_flos", results.total_flos},
          {"train_loss", results.train_loss},
          {"train_runtime", results.train_runtime},
          {"train_samples_per_second", results.train_samples_per_second},
          {"train_steps_per_second", results.train_steps_per_second}};
}

std::map<std::string, double> result_values(const EvalResults& results) {
  std::map<std::string, double> values{{"eval_loss", results.eval_loss},
                                       {"perplexity", perplexity(results.eval_loss)},
                                       {"eval_tokens", static_cast<double>(results.eval_tokens)},
                                       {"eval_runtime", results.eval_runtime},
                                       {"eval_samples_per_second", results.eval_samples_per_second},
                                       {"eval_steps_per_second", results.eval_steps_per_second}};
  if (results.epoch) values["epoch"] = *results.epoch;
  return values;
}

void write_results(const fs::path& file, const std::map<std::string, double>& values) {
  write_json_file(file, to_json(values), 4);
}

void save_results(const fs::path& folder, const std::string& kind,
                  const std::map<std::string, double>& values) {
  write_results(folder / (kind + "_results.json"), values);
  const fs::path all_file = folder / "all_results.json";
  Json all = Json::object();
  try {
    if (fs::exists(all_file)) all = read_json_file(all_file);
  } catch (const UserError&) {
    all = Json::object();  // not JSON: nothing of it can be kept
  }
  if (!all.is_object()) all = Json::object();
  all.update(to_json(values));
  write_json_file(all_file, all, 4);
}

std::string results_table(const std::string& kind, const std::map<std::string, double>& values) {
  std::size_t widest = 0;
  for (const auto& [key, value] : values) widest = std::max(widest, key.size());
  std::string table = "***** " + kind + " metrics *****";
  for (const auto& [key, value] : values)
    table += "\n  " + key + std::string(widest - key.size(), ' ') + " = " + shown(key, value);
  return table;
}

}  // namespace ithaca
