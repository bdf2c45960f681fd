#include "cli/engine_commands.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "ithaca/base/error.h"
#include "ithaca/config/generation_config.h"
#include "ithaca/data/dataset.h"
#include "ithaca/eval/generate.h"
#include "ithaca/eval/perplexity.h"
#include "ithaca/parallel/apply.h"
#include "ithaca/text/chat_templates.h"
#include "ithaca/train/model_setup.h"
#include "ithaca/train/progress.h"
#include "ithaca/train/run_report.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

// The prompt as a user's message, up to where the model's answer begins.
std::string chat_prompt(const fs::path& folder, const std::string& prompt) {
  const ChatTemplates templates = ChatTemplates::from_folder(folder);
  ChatInput input = ChatInput::of({{"user", prompt}});
  input.add_generation_prompt = true;
  input.special_tokens = templates.special_tokens();
  return templates.choose().render(input).text;
}

// What ends a text: the tokens that generation_config.json names (or config.json, where that file is absent) and no
// others, as in transformers; the tokenizer's end token where neither names one.
std::vector<int64_t> end_tokens(const GenerationConfig& generation, const ModelConfig& config,
                                const Tokenizer& tokenizer) {
  if (generation.eos_token_ids) return *generation.eos_token_ids;
  if (!config.eos_token_ids.empty()) return config.eos_token_ids;
  if (const std::optional<int32_t> eos = tokenizer.eos_id()) return {*eos};
  return {};
}

// The setting, where it is given; else what the folder says; else the setting's default.
int64_t new_tokens(const ResolvedSettings& settings, const GenerationConfig& generation,
                   std::size_t prompt_length) {
  if (settings.is_given("max_new_tokens")) return settings.values.max_new_tokens;
  if (generation.max_new_tokens) return *generation.max_new_tokens;
  if (!generation.max_length) return settings.values.max_new_tokens;
  const int64_t left = *generation.max_length - static_cast<int64_t>(prompt_length);
  if (left <= 0)
    throw UserError(str("generation_config.json: max_length ", *generation.max_length,
                        " leaves nothing after the prompt's ", prompt_length,
                        " tokens; give --max_new_tokens"));
  return left;
}

}  // namespace

int train_command(const EngineContext& context) {
  return train({context.settings, context.environment, context.world, context.logger, context.stop});
}

int eval_command(const EngineContext& context) {
  const Settings& s = context.settings.values;
  const ModelConfig config = read_run_config(s);
  const ParallelPlan plan = plan_run(s, config, context.environment, context.world, context.logger);
  DeviceMesh mesh(context.world, plan.degrees);
  const Tokenizer tokenizer = Tokenizer::from_folder(model_folder(s));
  for (const std::string& remark : tokenizer.remarks()) context.logger.warning(remark);
  const std::unique_ptr<Decoder> decoder = load_decoder(s, config);
  apply_parallelism(*decoder, plan, mesh);
  const Dataset data = Dataset::open({.file = s.eval_file,
                                      .cutoff_len = s.cutoff_len,
                                      .packing = s.packing,
                                      .max_samples = s.max_samples,
                                      .max_tokens = s.max_eval_tokens,
                                      .cache_dir = token_cache_dir(s),
                                      .overwrite_cache = s.overwrite_cache,
                                      .stop_requested = [&] { return context.stop.requested(); },
                                      .say = [&](const std::string& line) { context.logger.info(line); }},
                                     tokenizer, decoder->config.vocab_size);
  if (!data.remark().empty()) context.logger.warning(data.remark());
  const std::string usage = data.usage_remark();
  if (!usage.empty()) context.logger.info(usage);
  const bool leads = context.world.rank() == 0;
  std::optional<Progress> progress;
  if (leads)
    progress.emplace(Progress::Options{.total_steps = data.size(), .first_step = 0, .bar = {}, .style = {}});
  const auto started = std::chrono::steady_clock::now();
  const auto show = [&](double fraction) {
    if (progress) progress->step_done(static_cast<int64_t>(fraction * static_cast<double>(data.size())));
  };
  const EvalResult result =
      evaluate(*decoder, data, mesh,
               {.batch_size = s.per_device_eval_batch_size, .progress = show, .stop_requested = {}})
          .value();
  const auto time = std::chrono::steady_clock::now() - started;
  if (!leads) return kDone;
  progress.reset();
  report_evaluation(s.output_dir, eval_results(result, data, mesh, s.per_device_eval_batch_size, time),
                    context.logger);
  return kDone;
}

int generate_command(const EngineContext& context) {
  const Settings& s = context.settings.values;
  if (context.world.size() != 1)
    throw UserError(str("generate runs on one rank, this world has ", context.world.size(),
                        "; leave out --nproc and the launcher"));
  const Tokenizer tokenizer = Tokenizer::from_folder(model_folder(s));
  for (const std::string& remark : tokenizer.remarks()) context.logger.warning(remark);
  const std::string text = s.apply_chat_template ? chat_prompt(model_folder(s), s.prompt) : s.prompt;
  const ModelConfig config = read_run_config(s);
  const std::unique_ptr<Decoder> decoder = load_decoder(s, config);
  // A template writes its special tokens out; a plain prompt gets what the tokenizer puts in front of a
  // document.
  const std::vector<int32_t> prompt = tokenizer.encode(text, !s.apply_chat_template);
  const GenerationConfig generation = read_generation_config(model_folder(s));
  for (const std::string& note : generation.notes) context.logger.info(note);
  GenerateOptions options = {.max_new_tokens = new_tokens(context.settings, generation, prompt.size()),
                             .eos_token_ids = end_tokens(generation, config, tokenizer),
                             .on_token = {},
                             .backend = attention_backend_from_name(s.attention)};
  options.rules = TokenRules(generation, options.eos_token_ids, static_cast<int64_t>(prompt.size()),
                             options.max_new_tokens, config.vocab_size);
  const std::vector<int32_t> tokens = generate_greedy(*decoder, prompt, options);
  if (!s.apply_chat_template) std::printf("%s", s.prompt.c_str());
  std::printf("%s\n", tokenizer.decode(tokens, true).c_str());
  return kDone;
}

}  // namespace ithaca
