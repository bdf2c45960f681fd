#include "ithaca/train/run_report.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/json.h"
#include "ithaca/train/plot.h"

namespace fs = std::filesystem;

namespace ithaca {

EvalResults eval_results(const EvalResult& result, const Dataset& data, DeviceMesh& mesh, int64_t batch_size,
                         std::chrono::duration<double> time) {
  const int64_t rows_a_step = batch_size * mesh.degrees().data;
  const int64_t steps = (data.size() + rows_a_step - 1) / rows_a_step;
  return {.eval_loss = result.eval_loss(),
          .eval_tokens = result.labels,
          .eval_runtime = time.count(),
          .eval_samples_per_second = static_cast<double>(data.size()) / time.count(),
          .eval_steps_per_second = static_cast<double>(steps) / time.count(),
          .epoch = {}};
}

void report_evaluation(const fs::path& folder, const EvalResults& results, Logger& logger) {
  const auto values = result_values(results);
  save_results(folder, "eval", values);
  logger.info(results_table("eval", values));
}

RunReport::RunReport(const ResolvedSettings& settings, Logger& logger, int64_t total_steps,
                     std::optional<int64_t> first_step)
    : settings_(settings),
      logger_(logger),
      total_steps_(total_steps),
      first_step_(first_step.value_or(0)),
      log_(fs::path(settings.values.output_dir) / "trainer_log.jsonl", first_step),
      progress_({.total_steps = total_steps, .first_step = first_step_}),
      started_(std::chrono::steady_clock::now()) {
  logger_.set_terminal_guard([](void* bar) { static_cast<Progress*>(bar)->hide(); },
                             [](void* bar) { static_cast<Progress*>(bar)->show(); }, &progress_);
}

RunReport::~RunReport() {
  logger_.set_terminal_guard(nullptr, nullptr, nullptr);
}

double RunReport::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
}

void RunReport::log(StepRecord record) {
  record.total_steps = total_steps_;
  record.elapsed_seconds = seconds();
  const auto done = static_cast<double>(record.current_steps - first_step_);
  record.remaining_seconds =
      record.elapsed_seconds / done * static_cast<double>(total_steps_ - record.current_steps);
  log_.write(record);
  progress_.log(record);
}

void RunReport::write_state(const fs::path& folder, const RunState& state, double epoch,
                            const std::optional<TrainResults>& results) const {
  const Settings& s = settings_.values;
  write_trainer_state(folder / "trainer_state.json",
                      {.global_step = state.step,
                       .max_steps = total_steps_,
                       .epoch = epoch,
                       .num_train_epochs = s.num_train_epochs,
                       .train_batch_size = s.per_device_train_batch_size,
                       .num_input_tokens_seen = state.tokens_seen,
                       .total_flos = state.total_flops,
                       .logging_steps = s.logging_steps,
                       .eval_steps = s.eval_steps,
                       .save_steps = s.save_steps},
                      log_.history(), results);
}

void RunReport::finish(const RunState& state, double epoch, int64_t samples, const LayoutFigures& layout) {
  progress_.finish();
  const fs::path folder = settings_.values.output_dir;
  const double runtime = seconds();
  const auto steps = static_cast<double>(state.step - first_step_);
  const TrainResults results = {
      .epoch = epoch,
      .total_flos = state.total_flops,
      .train_loss = state.step == 0 ? 0 : state.loss_sum / static_cast<double>(state.step),
      .train_runtime = runtime,
      .train_samples_per_second = static_cast<double>(samples) / runtime,
      .train_steps_per_second = steps / runtime};
  save_results(folder, "train", result_values(results));
  // HF's keys are numbers; what a layout costs is a list, added beside them.
  const fs::path file = folder / "train_results.json";
  Json json = read_json_file(file);
  json["bytes_sent_per_step"] = layout.bytes_sent_per_step;
  json["bytes_predicted_per_step"] = layout.bytes_predicted_per_step;
  json["attention_imbalance"] = {{"mean", layout.mean_imbalance}, {"largest", layout.largest_imbalance}};
  json["peak_memory_bytes_per_rank"] = layout.peak_memory_bytes_per_rank;
  json["seconds_by_phase"] = {{"forward", layout.seconds.forward},
                              {"backward", layout.seconds.backward},
                              {"reduce", layout.seconds.reduce},
                              {"update", layout.seconds.update}};
  write_json_file(file, json, 4);
  write_state(folder, state, epoch, results);
  if (settings_.values.plot_loss) {
    LossPoints training, evaluation;
    for (const StepRecord& record : log_.history()) {
      LossPoints& points = record.loss ? training : evaluation;
      points.steps.push_back(record.current_steps);
      points.losses.push_back(record.loss ? *record.loss : record.eval_loss.value_or(0));
    }
    draw_loss(folder / "training_loss.png", training, "training loss: " + folder.filename().string(),
              evaluation);
  }
  if (settings_.values.sequence_parallel_size > 1)
    logger_.info(str("attention work of the busiest rank: ", layout.mean_imbalance,
                     " times the mean, at most ", layout.largest_imbalance, " in a step"));
  logger_.info(results_table("train", result_values(results)));
}

}  // namespace ithaca
