// trainer_state.json and the *_results.json files under the names Hugging Face's tools read (keys sorted).
// JSON knows no NaN: it is written as the string "nan", infinity as "inf" or "-inf".
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "ithaca/train/log_sinks.h"

namespace ithaca {

struct TrainResults {
  double epoch = 0;
  double total_flos = 0;     // model FLOP of the whole run
  double train_loss = 0;     // token-weighted mean over this run's steps
  double train_runtime = 0;  // seconds
  double train_samples_per_second = 0;
  double train_steps_per_second = 0;
};

struct EvalResults {
  double eval_loss = 0;
  int64_t eval_tokens = 0;  // valid labels
  double eval_runtime = 0;  // seconds
  double eval_samples_per_second = 0;
  double eval_steps_per_second = 0;
  std::optional<double> epoch;  // not set for `ithaca eval`
};

struct TrainerState {
  int64_t global_step = 0;
  int64_t max_steps = 0;
  double epoch = 0;
  double num_train_epochs = 0;
  int64_t train_batch_size = 0;  // per_device_train_batch_size
  int64_t num_input_tokens_seen = 0;
  double total_flos = 0;
  int64_t logging_steps = 0, eval_steps = 0, save_steps = 0;
};

// `history`: the lines of trainer_log.jsonl. `results` adds the run's last entry (train_loss, train_runtime,
// ...) once there is one.
void write_trainer_state(const std::filesystem::path& file, const TrainerState& state,
                         std::span<const StepRecord> history,
                         const std::optional<TrainResults>& results = std::nullopt);

// What the *_results.json files hold, key by key: for the files and for the console.
std::map<std::string, double> result_values(const TrainResults& results);
std::map<std::string, double> result_values(
    const EvalResults& results);  // perplexity = exp(eval_loss) included

// One file of such values (eval_before.json, eval_results.json, ...). Whole numbers are written without a
// point.
void write_results(const std::filesystem::path& file, const std::map<std::string, double>& values);

// folder/<kind>_results.json, kind "train" or "eval", and the values added to folder/all_results.json, which
// keeps what other runs put there. An all_results.json that is not a JSON object is replaced.
void save_results(const std::filesystem::path& folder, const std::string& kind,
                  const std::map<std::string, double>& values);

// The values for a person: "***** train metrics *****" and a line each, names aligned, runtimes as H:MM:SS,
// FLOP short.
std::string results_table(const std::string& kind, const std::map<std::string, double>& values);

}  // namespace ithaca
