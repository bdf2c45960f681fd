#include "ithaca/train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"
#include "ithaca/checkpoint/hf_folder.h"
#include "ithaca/checkpoint/output_model.h"
#include "ithaca/checkpoint/training_state.h"
#include "ithaca/data/dataset.h"
#include "ithaca/data/sampler.h"
#include "ithaca/eval/perplexity.h"
#include "ithaca/optim/schedule.h"
#include "ithaca/parallel/apply.h"
#include "ithaca/train/memory.h"
#include "ithaca/train/model_setup.h"
#include "ithaca/train/resume.h"
#include "ithaca/train/run_report.h"
#include "ithaca/train/run_state.h"
#include "ithaca/train/step.h"
#include "ithaca/train/throughput.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr int64_t kPassesOfALayer =
    3;  // forward once, backward about twice as long: shares of the progress bar

class Trainer {
 public:
  explicit Trainer(const TrainContext& context);
  ExitCode run();

 private:
  DataIdentity data_identity() const;
  void show_layers();
  void resume();
  std::vector<Batch> micro_batches(int64_t step) const;
  void train_one_step();
  void log_step(const StepTotals& totals, double learning_rate);
  bool evaluate_now();
  void save_checkpoint();
  ExitCode stopped();
  void save_model();
  LayoutFigures gather_figures();
  ExitCode finish();
  double epoch() const {
    return static_cast<double>(state_.step) / static_cast<double>(sampler_.steps_per_epoch());
  }
  bool leads() const { return context_.world.rank() == 0; }

  const TrainContext& context_;
  const Settings& settings_;
  fs::path output_dir_;
  ModelConfig config_;
  ParallelPlan plan_;
  DeviceMesh mesh_;
  Tokenizer tokenizer_;
  std::unique_ptr<Decoder> decoder_;
  std::shared_ptr<PlanCache> plans_;
  Dataset data_;
  std::optional<Dataset> eval_data_;
  Sampler sampler_;
  std::unique_ptr<ParameterShards> shards_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t total_steps_ = 0;
  ScheduleOptions schedule_;
  RunState state_;
  std::unique_ptr<RunReport> report_;  // rank 0
  bool stop_ = false;
  int64_t samples_ = 0;       // trained on by this process's run
  LayoutFigures layout_;      // as this rank knows them
  double imbalance_sum_ = 0;  // over steps
  int64_t steps_ = 0;         // of this process's run
  int64_t saved_step_ = -1;   // of the newest checkpoint that this process has written
  EvalResults last_evaluation_;
  Throughput since_log_;    // the steps since the last logged line
  StepSeconds seconds_;     // this rank's, over the run
  int64_t layers_run_ = 0;  // of the step under way: for the progress bar
};

// The first rank that gets there tokenises; the others wait for its cache.
Dataset open_data(const TrainContext& context, const std::string& file, const Tokenizer& tokenizer,
                  int64_t vocab_size, bool training) {
  const Settings& s = context.settings.values;
  Dataset data = Dataset::open({.file = file,
                                .cutoff_len = s.cutoff_len,
                                .packing = s.packing,
                                .max_samples = s.max_samples,
                                .max_tokens = training ? 0 : s.max_eval_tokens,
                                .cache_dir = token_cache_dir(s),
                                .overwrite_cache = s.overwrite_cache,
                                .stop_requested = [&] { return context.stop.requested(); },
                                .say = [&](const std::string& line) { context.logger.info(line); }},
                               tokenizer, vocab_size);
  if (!data.remark().empty()) context.logger.warning(data.remark());
  const std::string usage = data.usage_remark();
  if (!usage.empty()) context.logger.info(usage);
  return data;
}

int64_t global_batch(const Settings& s, const ParallelPlan& plan) {
  return s.per_device_train_batch_size * s.gradient_accumulation_steps * plan.degrees.data;
}

OptimizerOptions optimizer_options(const Settings& s) {
  return {.kind = s.optim == "sgd" ? OptimizerOptions::Kind::kSgd : OptimizerOptions::Kind::kAdamW,
          .beta1 = s.adam_beta1,
          .beta2 = s.adam_beta2,
          .eps = s.adam_epsilon,
          .weight_decay = s.weight_decay};
}

Trainer::Trainer(const TrainContext& context)
    : context_(context),
      settings_(context.settings.values),
      output_dir_(settings_.output_dir),
      config_(read_run_config(settings_)),
      plan_(plan_run(settings_, config_, context.environment, context.world, context.logger)),
      mesh_(context.world, plan_.degrees),
      tokenizer_(Tokenizer::from_folder(model_folder(settings_))),
      decoder_(load_decoder(settings_, config_)),
      data_(open_data(context, settings_.train_file, tokenizer_, decoder_->config.vocab_size, true)),
      sampler_({.num_samples = data_.size(),
                .global_batch = global_batch(settings_, plan_),
                .seed = static_cast<uint64_t>(settings_.seed),
                .shuffle = !settings_.disable_shuffling}) {
  for (const std::string& remark : tokenizer_.remarks()) context.logger.warning(remark);
  if (!settings_.eval_file.empty())
    eval_data_ = open_data(context, settings_.eval_file, tokenizer_, decoder_->config.vocab_size, false);
  plans_ = apply_parallelism(*decoder_, plan_, mesh_);
  shards_ = std::make_unique<ParameterShards>(decoder_->parameters(), mesh_.sequence_data(),
                                              plan_.activation_checkpoint != CheckpointMode::kNone);
  optimizer_ = std::make_unique<Optimizer>(optimizer_options(settings_), shards_->entries());
  total_steps_ = settings_.max_steps > 0
                     ? settings_.max_steps
                     : static_cast<int64_t>(std::ceil(settings_.num_train_epochs *
                                                      static_cast<double>(sampler_.steps_per_epoch())));
  schedule_ = {settings_.lr_scheduler_type, settings_.learning_rate, settings_.warmup_steps,
               settings_.warmup_ratio, total_steps_};
}

DataIdentity Trainer::data_identity() const {
  return {.rows = data_.size(),
          .tokens = data_.num_tokens(),
          .global_batch = global_batch(settings_, plan_),
          .content = data_.content_hash(),
          .tokenizer = sha256_of(tokenizer_.fingerprint())};
}

void Trainer::resume() {
  const std::optional<fs::path> folder = choose_checkpoint(context_);
  if (!folder) return;
  const TrainingState saved = read_training_state(*folder);
  check_same_run(saved.state, run_identity(settings_, config_, data_identity()),
                 run_conditions(context_, total_steps_), *folder, context_.logger);
  state_ = RunState::from_json(saved.state, folder->string());
  if (state_.step != saved.step)
    throw UserError(
        str(folder->string(), ": its files are of different steps, ", state_.step, " and ", saved.step));
  if (state_.step > total_steps_)
    throw UserError(str(folder->string(), " is at step ", state_.step, ", beyond the ", total_steps_,
                        " steps of this run; raise max_steps or start anew with --overwrite_output_dir"));
  load_weights(*decoder_, *folder);
  std::vector<StoredPart> parts;
  for (const StateSlot& slot : shards_->state_slots(*optimizer_))
    parts.push_back({slot.name, slot.dtype, slot.sizes, slot.begin, slot.part});
  read_optimizer_state(*folder, parts);
  optimizer_->set_step_count(saved.step);
  context_.logger.info(
      str("resuming ", folder->string(), ": step ", state_.step, " of ", total_steps_, ", epoch ", epoch()));
}

// A long step must not look like a hang: rank 0's bar moves with each layer's forward pass.
void Trainer::show_layers() {
  const auto runs = static_cast<double>(kPassesOfALayer * static_cast<int64_t>(decoder_->layers.size()) *
                                        settings_.gradient_accumulation_steps);
  decoder_->run_layer = [this, runs, inner = decoder_->run_layer](DecoderLayer& layer, const at::Tensor& x,
                                                                  const LayerContext& context) {
    at::Tensor y = inner ? inner(layer, x, context) : layer.forward(x, context);
    report_->tick(static_cast<double>(++layers_run_) / runs);
    return y;
  };
}

std::vector<Batch> Trainer::micro_batches(int64_t step) const {
  std::vector<Batch> batches;
  for (int64_t m = 0; m < settings_.gradient_accumulation_steps; ++m)
    batches.push_back(data_.batch(sampler_.micro_batch(
        step, mesh_.coordinate(Axis::kData), plan_.degrees.data, m, settings_.gradient_accumulation_steps)));
  return batches;
}

void Trainer::train_one_step() {
  const auto started = std::chrono::steady_clock::now();
  const std::vector<Batch> batches = micro_batches(state_.step);
  const double learning_rate = learning_rate_at(schedule_, state_.step);
  const int64_t sent_before = mesh_.bytes_sent();
  StepOptions options = {.max_grad_norm = settings_.max_grad_norm, .progress = {}, .stop_requested = [&] {
                           return context_.stop.requested();
                         }};
  layers_run_ = 0;
  const int64_t layer_runs = kPassesOfALayer * static_cast<int64_t>(decoder_->layers.size());
  if (report_)
    options.progress = [&](double fraction) {
      layers_run_ = static_cast<int64_t>(
          fraction * static_cast<double>(layer_runs * settings_.gradient_accumulation_steps));
      report_->tick(fraction);
    };
  layout_.bytes_predicted_per_step = predicted_step_bytes(mesh_, *shards_);
  imbalance_sum_ += 1;  // of micro-batches without rows too
  options.planned = [&](const BatchPlan& batch) {
    layout_.bytes_predicted_per_step +=
        predicted_attention_bytes(*decoder_, plan_, mesh_.sequence().rank(), batch);
    const double imbalance = attention_imbalance(*decoder_, plan_, batch);
    imbalance_sum_ += (imbalance - 1) / static_cast<double>(batches.size());
    layout_.largest_imbalance = std::max(layout_.largest_imbalance, imbalance);
  };
  const StepTotals totals =
      train_step(*decoder_, *plans_, *shards_, *optimizer_, mesh_, batches, learning_rate, options);
  layout_.bytes_sent_per_step = mesh_.bytes_sent() - sent_before;

  samples_ += static_cast<int64_t>(sampler_.step(state_.step).size());
  state_.step += 1;
  ++steps_;
  seconds_.forward += totals.seconds.forward;
  seconds_.backward += totals.seconds.backward;
  seconds_.reduce += totals.seconds.reduce;
  seconds_.update += totals.seconds.update;
  state_.tokens_seen += totals.tokens;
  const double flops = training_flops(*decoder_, totals.tokens, totals.sum_of_squared_lengths);
  state_.total_flops += flops;
  state_.loss_sum += totals.loss_sum / static_cast<double>(std::max<int64_t>(totals.labels, 1));
  state_.log_loss_sum += totals.loss_sum;
  state_.log_labels += totals.labels;
  since_log_.add(totals.tokens, flops,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  stop_ = totals.stop;
  if (report_) report_->step_done(state_.step);
  if (state_.step % settings_.logging_steps == 0 || state_.step == total_steps_)
    log_step(totals, learning_rate);
}

void Trainer::log_step(const StepTotals& totals, double learning_rate) {
  context_.logger.note(
      str("step ", state_.step, ": grad_norm ", totals.grad_norm, ", learning rate ", learning_rate));
  at::Tensor peak = at::full({1}, peak_memory_bytes(), at::kLong);
  context_.world.all_reduce(peak, ReduceOp::kMax);
  if (report_) {
    StepRecord record;
    record.current_steps = state_.step;
    record.epoch = epoch();
    record.loss = state_.log_loss_sum / static_cast<double>(std::max<int64_t>(state_.log_labels, 1));
    record.grad_norm = totals.grad_norm;
    record.lr = learning_rate;
    record.tokens_per_second = since_log_.tokens_per_second();
    record.tokens_per_second_per_rank = *record.tokens_per_second / context_.world.size();
    record.model_flops_per_second = since_log_.flops_per_second();
    record.peak_memory_bytes = peak.item<int64_t>();
    record.total_tokens = state_.tokens_seen;
    report_->log(record);
  }
  state_.log_loss_sum = 0;
  state_.log_labels = 0;
  since_log_ = {};
}

// False: given up, since some rank was asked to stop.
bool Trainer::evaluate_now() {
  const auto started = std::chrono::steady_clock::now();
  const std::optional<EvalResult> result =
      evaluate(*decoder_, *eval_data_, mesh_,
               {.batch_size = settings_.per_device_eval_batch_size, .progress = {}, .stop_requested = [&] {
                  return context_.stop.requested();
                }});
  if (!result) return false;
  last_evaluation_ = eval_results(*result, *eval_data_, mesh_, settings_.per_device_eval_batch_size,
                                  std::chrono::steady_clock::now() - started);
  last_evaluation_.epoch = epoch();
  if (!report_) return true;
  StepRecord record;
  record.current_steps = state_.step;
  record.epoch = epoch();
  record.eval_loss = result->eval_loss();
  report_->log(record);
  return true;
}

// All ranks hold the same weights and each a part of the optimizer: rank 0 collects the parts and writes. The
// others wait, so that none runs ahead of a checkpoint that failed.
void Trainer::save_checkpoint() {
  const std::vector<StateSlot> slots = shards_->state_slots(*optimizer_);
  shards_->gather_state(slots, [&](const ParameterShards::WholeSlot& whole) {
    const fs::path temporary = begin_checkpoint(output_dir_, state_.step);
    save_model_folder(*decoder_, temporary, model_folder(settings_));
    report_->write_state(temporary, state_, epoch());
    std::vector<StoredTensor> tensors;
    for (std::size_t i = 0; i < slots.size(); ++i)
      tensors.push_back({slots[i].name, slots[i].dtype, slots[i].sizes, [&whole, i] { return whole(i); }});
    // Training draws no random numbers (no dropout; the order of samples is arithmetic on seed and step): the
    // seed is the whole RNG state.
    write_training_state(temporary,
                         {state_.step,
                          {{"run", state_.to_json()},
                           {"identity", run_identity(settings_, config_, data_identity())},
                           {"conditions", run_conditions(context_, total_steps_)}}},
                         tensors);
    const fs::path folder =
        commit_checkpoint(temporary, output_dir_, state_.step, settings_.save_total_limit);
    context_.logger.info("saved " + folder.string());
  });
  saved_step_ = state_.step;
  context_.world.barrier();
}

// After a stop signal: what has been trained is in a checkpoint.
ExitCode Trainer::stopped() {
  if (saved_step_ != state_.step) save_checkpoint();
  const bool same_command = !settings_.overwrite_output_dir && settings_.resume_from_checkpoint != "false";
  context_.logger.info(
      str("stopped by a signal after step ", state_.step, "; ",
          same_command ? "the same command goes on from there"
                       : "go on from there with --overwrite_output_dir false --resume_from_checkpoint true"));
  return kStoppedAndSaved;
}

void Trainer::save_model() {
  if (leads()) {
    const fs::path folder = begin_model(output_dir_);
    save_model_folder(*decoder_, folder, model_folder(settings_));
    commit_model(folder, output_dir_);
  }
  context_.world.barrier();
}

LayoutFigures Trainer::gather_figures() {
  // Bytes are whole numbers below 2^53. Imbalance is that of each replica's own batches.
  const at::Tensor mine = at::tensor(
      {static_cast<double>(layout_.bytes_sent_per_step),
       static_cast<double>(layout_.bytes_predicted_per_step), static_cast<double>(peak_memory_bytes()),
       steps_ > 0 ? imbalance_sum_ / static_cast<double>(steps_) : 1.0, layout_.largest_imbalance},
      at::kDouble);
  at::Tensor all = at::empty({context_.world.size() * mine.numel()}, at::kDouble);
  context_.world.all_gather(all, mine);
  LayoutFigures figures;
  figures.seconds = seconds_;
  figures.mean_imbalance = 0;
  for (const double* of = all.const_data_ptr<double>(); of < all.const_data_ptr<double>() + all.numel();
       of += mine.numel()) {
    figures.bytes_sent_per_step += static_cast<int64_t>(of[0]);
    figures.bytes_predicted_per_step += static_cast<int64_t>(of[1]);
    figures.peak_memory_bytes_per_rank.push_back(static_cast<int64_t>(of[2]));
    figures.mean_imbalance += of[3] / context_.world.size();
    figures.largest_imbalance = std::max(figures.largest_imbalance, of[4]);
  }
  return figures;
}

// The weights are on the disk before the last evaluation, which may take long, begins.
ExitCode Trainer::finish() {
  save_model();
  if (eval_data_ && !evaluate_now()) return stopped();
  const LayoutFigures figures = gather_figures();
  if (report_) {
    report_->finish(state_, epoch(), samples_, figures);
    if (eval_data_) report_evaluation(output_dir_, last_evaluation_, context_.logger);
  }
  context_.world.barrier();
  return kDone;
}

ExitCode Trainer::run() {
  context_.logger.note(str("rank ", context_.world.rank(), " of ", context_.world.size(), ", process ",
                           ::getpid(), ", ", at::get_num_threads(), " threads, data index ",
                           mesh_.coordinate(Axis::kData), ", sequence index ", mesh_.sequence().rank(), ", ",
                           data_.size(), " rows"));
  resume();
  context_.stop.work_began();
  if (leads()) {
    write_file(output_dir_ / "resolved_settings.yaml", settings_to_yaml(context_.settings));
    context_.logger.info(str("training on ", data_.num_tokens(), " tokens in ", data_.size(), " rows",
                             data_.from_cache() ? " (cached)" : "", ": ", total_steps_, " steps, ",
                             plan_.degrees.data, " data x ", plan_.degrees.sequence(), " sequence ranks"));
    if (const std::string remark = export_remark(settings_, *decoder_); !remark.empty())
      context_.logger.warning(remark);
    report_ = std::make_unique<RunReport>(context_.settings, context_.logger, total_steps_,
                                          state_.step > 0 ? std::optional(state_.step) : std::nullopt);
    show_layers();
  }
  while (state_.step < total_steps_) {
    train_one_step();
    const auto due = [&](int64_t steps) { return steps > 0 && state_.step % steps == 0; };
    const bool last = state_.step == total_steps_;
    if (due(settings_.save_steps)) save_checkpoint();
    if (last) break;
    if (stop_) return stopped();
    if (eval_data_ && due(settings_.eval_steps) && !evaluate_now()) return stopped();
  }
  return finish();
}

}  // namespace

ExitCode train(const TrainContext& context) {
  return Trainer(context).run();
}

}  // namespace ithaca
