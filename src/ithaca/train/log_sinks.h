// A run's figures: the record of a logged step, and trainer_log.jsonl. Only rank 0 writes it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

// One logged step. What is not set is not written: a training line has `loss`, an evaluation line has
// `eval_loss`.
struct StepRecord {
  int64_t current_steps = 0;
  int64_t total_steps = 0;
  double epoch = 0;
  std::optional<double> loss;       // token-weighted mean since the last logged line
  std::optional<double> grad_norm;  // before clipping
  std::optional<double> lr;
  std::optional<double> eval_loss;
  std::optional<double> tokens_per_second;  // all ranks, without padding
  std::optional<double> tokens_per_second_per_rank;
  std::optional<double> model_flops_per_second;  // all ranks, causal attention counted once
  std::optional<int64_t> peak_memory_bytes;      // of the largest rank
  std::optional<int64_t> total_tokens;           // seen since the run began, resumed parts included
  double elapsed_seconds = 0;
  double remaining_seconds = 0;
};

// "H:MM:SS"; hours may have more digits. "-:--:--" for what is negative or not finite.
std::string clock_text(double seconds);
// "1.46 GB" (powers of 1000, three digits), "12.3k": short figures for people.
std::string bytes_text(double bytes);
std::string count_text(double count);
std::string flops_text(double flops_per_second);  // "1.23 TFLOP/s"

// exp(loss); infinity beyond what a double holds.
double perplexity(double loss);

// trainer_log.jsonl: one JSON object a logged line under LLaMA-Factory's current names (current_steps,
// total_steps, loss, lr, epoch, percentage, elapsed_time, remaining_time, throughput, total_tokens) and ours
// (grad_norm, tokens_per_second, ...). Numbers have all the digits that make them the same double again. JSON
// knows no NaN: it is written as the string "nan", infinity as "inf" or "-inf".
class TrainerLog {
 public:
  // `resumed_step` not set: starts an empty file. Set: keeps the lines up to that step and drops the others
  // (those of a run that went further than its last checkpoint, and a line torn by a crash), so that each
  // step is there once; the file is replaced whole. UserError if the file cannot be written.
  TrainerLog(const std::filesystem::path& file, std::optional<int64_t> resumed_step);
  ~TrainerLog();
  TrainerLog(const TrainerLog&) = delete;
  TrainerLog& operator=(const TrainerLog&) = delete;

  void write(const StepRecord& record);  // one write(2) of one whole line
  // All lines so far, those kept from before the resume first: the source of training_loss.png and
  // trainer_state.json.
  const std::vector<StepRecord>& history() const { return history_; }

 private:
  std::filesystem::path file_;
  int fd_ = -1;
  std::vector<StepRecord> history_;
};

// The record as a line of trainer_log.jsonl without the newline, and back. The latter gives nothing when the
// line is no such object.
std::string trainer_log_line(const StepRecord& record);
std::optional<StepRecord> parse_trainer_log_line(std::string_view line);

}  // namespace ithaca
