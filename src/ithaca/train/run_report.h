// What rank 0 shows and writes about a training run: the terminal, trainer_log.jsonl, the picture,
// trainer_state.json, the results.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "ithaca/base/log.h"
#include "ithaca/config/settings.h"
#include "ithaca/eval/perplexity.h"
#include "ithaca/train/log_sinks.h"
#include "ithaca/train/progress.h"
#include "ithaca/train/run_state.h"
#include "ithaca/train/step.h"
#include "ithaca/train/trainer_state_json.h"

namespace ithaca {

// Figures of the last step that only all ranks together know.
struct LayoutFigures {
  int64_t bytes_sent_per_step = 0, bytes_predicted_per_step = 0;  // all ranks
  std::vector<int64_t> peak_memory_bytes_per_rank;
  // Attention work of the busiest rank over the mean, by step (parallel/apply.h).
  double mean_imbalance = 1, largest_imbalance = 1;
  StepSeconds seconds;  // of rank 0, over the run
};

// An evaluation of all rows of `data` that took `time`, as it is written and shown.
EvalResults eval_results(const EvalResult& result, const Dataset& data, DeviceMesh& mesh, int64_t batch_size,
                         std::chrono::duration<double> time);
// eval_results.json, all_results.json, and the table in the log.
void report_evaluation(const std::filesystem::path& folder, const EvalResults& results, Logger& logger);

class RunReport {
 public:
  // `first_step`: steps done before, set when the run was resumed.
  RunReport(const ResolvedSettings& settings, Logger& logger, int64_t total_steps,
            std::optional<int64_t> first_step);
  ~RunReport();
  RunReport(const RunReport&) = delete;
  RunReport& operator=(const RunReport&) = delete;

  void tick(double fraction_of_step) { progress_.tick(fraction_of_step); }
  void step_done(int64_t step) { progress_.step_done(step); }
  // Fills in steps and times.
  void log(StepRecord record);
  double seconds() const;  // since this process began the loop

  // trainer_state.json into a folder (a checkpoint, or the output folder).
  void write_state(const std::filesystem::path& folder, const RunState& state, double epoch,
                   const std::optional<TrainResults>& results = {}) const;
  // The picture, train_results.json, all_results.json, and the table on the terminal.
  void finish(const RunState& state, double epoch, int64_t samples, const LayoutFigures& layout);

 private:
  const ResolvedSettings& settings_;
  Logger& logger_;
  int64_t total_steps_, first_step_;
  TrainerLog log_;
  Progress progress_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace ithaca
