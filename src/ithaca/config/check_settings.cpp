#include <algorithm>
#include <filesystem>

#include "ithaca/base/file.h"
#include "ithaca/config/attention_settings.h"
#include "ithaca/config/sequence_plan.h"
#include "ithaca/config/settings.h"
#include "ithaca/config/settings_table.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kAtenCannot = ": PyTorch's kernel cannot do that; choose attention auto or ithaca";

struct Check {
  const ResolvedSettings& resolved;
  int64_t world_size;
  std::string_view command;
  Problems& problems;

  const Settings& values() const { return resolved.values; }
  std::string typed(const char* name) const { return resolved.as_typed(name); }
};

void require(const Check& check, const char* name, const std::string& value, const char* what) {
  if (value.empty())
    check.problems.add(str(name, " is missing: `ithaca ", check.command, "` needs ", what, " (--", name,
                           " VALUE, or `", name, ": VALUE` in the settings file)"));
}

void check_required(const Check& check) {
  const Settings& s = check.values();
  require(check, "model_name_or_path", s.model_name_or_path, "a model folder");
  if (check.command == "train") {
    require(check, "train_file", s.train_file, "a text to train on");
    require(check, "output_dir", s.output_dir, "a folder for the results");
  } else if (check.command == "eval") {
    require(check, "eval_file", s.eval_file, "a text to evaluate");
    require(check, "output_dir", s.output_dir, "a folder for the results");
  } else if (check.command == "generate") {
    require(check, "prompt", s.prompt, "a text to go on with");
  }
}

void check_text_file(const Check& check, const char* name, const std::string& path) {
  if (path.empty()) return;
  const std::string problem = input_file_problem(path), ending = file_ending(path);
  if (!problem.empty())
    check.problems.add(str(check.typed(name), ": ", problem, "; expected a .txt or .jsonl file"));
  else if (ending != ".txt" && ending != ".jsonl")
    check.problems.add(
        str(check.typed(name), ": expected a name that ends in .txt (one document) or .jsonl (key text)"));
}

void check_model_folder(const Check& check) {
  const std::string& path = check.values().model_name_or_path;
  std::error_code error;
  if (path.empty()) return;
  const std::string typed = check.typed("model_name_or_path");
  if (!fs::exists(path, error))
    check.problems.add(
        str(typed, ": no such folder; expected a local Hugging Face model folder (nothing is downloaded)"));
  else if (file_ending(path) == ".gguf")
    check.problems.add(str(typed, ": a GGUF file; make a folder of it first: ithaca convert ", path, " DIR"));
  else if (fs::is_directory(path, error) && !fs::exists(fs::path(path) / "config.json", error))
    check.problems.add(str(typed, ": no config.json in this folder; expected a Hugging Face model folder"));
  else if (!fs::is_directory(path, error) &&
           !(check.values().train_from_scratch && fs::path(path).filename() == "config.json"))
    check.problems.add(str(
        typed,
        ": not a folder; expected a Hugging Face model folder (or a config.json with train_from_scratch)"));
}

void check_files(const Check& check) {
  check_model_folder(check);
  if (check.command == "train") check_text_file(check, "train_file", check.values().train_file);
  if (check.command != "generate") check_text_file(check, "eval_file", check.values().eval_file);
  const std::string& resume = check.values().resume_from_checkpoint;
  std::error_code error;
  if (resume != "auto" && resume != "true" && resume != "false" && !fs::is_directory(resume, error))
    check.problems.add(str(check.typed("resume_from_checkpoint"),
                           ": no such folder; expected auto, true, false or a checkpoint folder"));
}

// Whether output_dir can be a folder at all; what may lie in it is another question (check_output_dir).
void check_output_place(const Check& check) {
  std::error_code error;
  fs::path existing = fs::absolute(check.values().output_dir, error);
  while (!fs::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
  if (!fs::is_directory(existing, error))
    check.problems.add(
        str(check.typed("output_dir"), ": ", existing.string(), " is a file; expected a folder"));
}

void check_training(const Check& check) {
  const Settings& s = check.values();
  if (s.max_steps == 0)
    check.problems.add(
        str(check.typed("max_steps"), ": expected at least 1, or -1 to go by num_train_epochs"));
  if (s.warmup_steps > 0 && s.warmup_ratio > 0)
    check.problems.add(str(check.typed("warmup_steps"), " and ", check.typed("warmup_ratio"),
                           ": both say how long warmup is; give one"));
  if (s.lr_scheduler_type == "constant" && (s.warmup_steps > 0 || s.warmup_ratio > 0))
    check.problems.add(
        str(check.typed(s.warmup_steps > 0 ? "warmup_steps" : "warmup_ratio"),
            ": lr_scheduler_type constant has no warmup; choose constant_with_warmup or drop it"));
  if (s.eval_steps > 0 && s.eval_file.empty())
    check.problems.add(str(check.typed("eval_steps"), ": evaluation during training needs eval_file"));
}

void check_attention(const Check& check) {
  const Settings& s = check.values();
  if (s.attention == "cudnn")
    check.problems.add(str(
        check.typed("attention"),
        ": needs an NVIDIA GPU, and this version computes on the CPU; choose auto, ithaca, aten or naive"));
  if (s.attention != "aten") return;
  for (const auto& [name, used] : {std::pair{"sliding_window", s.sliding_window > 0},
                                   {"position_embedding", s.position_embedding == "alibi"},
                                   {"sparse_attention.mode", s.sparse_attention_mode != "dense"}})
    if (used) check.problems.add(str(check.typed(name), " with ", check.typed("attention"), kAtenCannot));
}

// A key of sparse_attention that the mode does not read, unless it says what is so anyway (saved settings do).
void refuse_unread_key(const Check& check, const char* name, const char* mode) {
  const SettingInfo& info = *find_setting(name);
  if (value_text(info, check.values()) != value_text(info, Settings{}))
    check.problems.add(str(check.typed(name), " with ", check.typed("sparse_attention.mode"),
                           ": expected sparse_attention.mode ", mode, ", or to leave it out"));
}

void check_block_mask(const Check& check) {
  const Settings& s = check.values();
  const std::string typed = check.typed("sparse_attention.mask_file");
  if (s.sparse_attention_mask_file.empty()) {
    check.problems.add(str("sparse_attention.mask_file is missing: ", check.typed("sparse_attention.mode"),
                           " needs a text file, a line of zeros and ones for each block of queries"));
    return;
  }
  try {
    const int64_t covered = read_block_mask(s.sparse_attention_mask_file).blocks * s.sparse_attention_block;
    if (covered < s.cutoff_len)
      check.problems.add(
          str(typed, ": its blocks cover ", covered, " tokens (", check.typed("sparse_attention.block"),
              "), and rows have ", check.typed("cutoff_len"), "; expected a mask of at least ",
              (s.cutoff_len + s.sparse_attention_block - 1) / s.sparse_attention_block, " blocks"));
  } catch (const UserError& mistake) {
    check.problems.add(str(typed, ": ", mistake.what()));
  }
}

void check_sparse(const Check& check) {
  const Settings& s = check.values();
  const std::string& mode = s.sparse_attention_mode;
  if (mode == "dense") refuse_unread_key(check, "sparse_attention.block", "fixed or mask");
  if (mode != "mask") refuse_unread_key(check, "sparse_attention.mask_file", "mask");
  if (mode != "fixed") {
    refuse_unread_key(check, "sparse_attention.num_local_blocks", "fixed");
    refuse_unread_key(check, "sparse_attention.num_global_blocks", "fixed");
  }
  if (mode == "mask") check_block_mask(check);
  if (mode == "fixed" && s.sparse_attention_num_global_blocks > s.sparse_attention_num_local_blocks)
    check.problems.add(str(check.typed("sparse_attention.num_global_blocks"), " with ",
                           check.typed("sparse_attention.num_local_blocks"),
                           ": expected at most as many (they are the last blocks of a window)"));
}

void check_layout(const Check& check) {
  const Settings& s = check.values();
  const int64_t size = s.sequence_parallel_size, world = check.world_size;
  if (s.tensor_parallel_size > 1)
    check.problems.add(str(check.typed("tensor_parallel_size"),
                           ": tensor parallelism comes later; only 1 is accepted so far"));
  check_sequence_settings(check.resolved, check.problems);
  if (check.command == "generate") {
    if (world > 1)
      check.problems.add(str("generate runs on one rank; this run has ", world, " (", check.typed("nproc"),
                             "): give --nproc 1"));
    return;
  }
  if (size > world)
    check.problems.add(str(check.typed("sequence_parallel_size"), " needs ", size, " ranks, this run has ",
                           world, "; type: ithaca ", check.command,
                           check.resolved.typed_with("nproc", str(size)),
                           "\n    (under torchrun, srun or mpirun: start ", size, " ranks)"));
  else if (world % size != 0)
    check.problems.add(str(check.typed("sequence_parallel_size"), ": the ", world, " ranks of this run (",
                           check.typed("nproc"), ") are not divisible by ", size, "; type: ithaca ",
                           check.command, check.resolved.typed_with("nproc", str(world / size * size)),
                           "\n    (under torchrun, srun or mpirun: start ", world / size * size, " or ",
                           (world / size + 1) * size, " ranks)"));
}

// A start that was refused leaves no more than its logs: the mended command may use the folder.
// What a run leaves that ended before its first checkpoint: nothing to go on from, and nothing to lose.
bool holds_only_a_beginning(const fs::path& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool begun = name == "logs" || name == "resolved_settings.yaml" || name == "trainer_log.jsonl" ||
                       name.find(".tmp.") != std::string::npos;
    if (!begun) return false;
  }
  return true;
}

bool has_checkpoint(const fs::path& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool numbered =
        name.starts_with("checkpoint-") && name.size() > 11 &&
        std::all_of(name.begin() + 11, name.end(), [](unsigned char c) { return c >= '0' && c <= '9'; });
    if (numbered && entry.is_directory(error)) return true;
  }
  return false;
}

}  // namespace

void check_settings(const ResolvedSettings& settings, int64_t world_size, Problems& problems,
                    std::string_view command) {
  const Check check{settings, world_size, command, problems};
  check_required(check);
  check_files(check);
  check_attention(check);
  check_sparse(check);
  if (command != "generate" && !settings.values.output_dir.empty()) check_output_place(check);
  check_layout(check);
  if (command == "train") check_training(check);
  if (command == "generate" && settings.values.do_sample)
    problems.add(str(settings.as_typed("do_sample"), ": sampling comes later; generation is greedy so far"));
}

void check_output_dir(const ResolvedSettings& settings, Problems& problems) {
  const Settings& s = settings.values;
  if (s.output_dir.empty()) return;
  const std::string typed = settings.as_typed("output_dir");
  std::error_code error;
  const bool folder = fs::is_directory(s.output_dir, error);
  const bool checkpoint = folder && has_checkpoint(s.output_dir);
  if (s.resume_from_checkpoint == "true" && !checkpoint)
    problems.add(str(settings.as_typed("resume_from_checkpoint"), ": no checkpoint-N in ", s.output_dir,
                     " to go on from"));
  if (!folder || s.overwrite_output_dir || holds_only_a_beginning(s.output_dir)) return;
  if (!checkpoint && (s.resume_from_checkpoint == "auto" || s.resume_from_checkpoint == "false"))
    problems.add(str(typed,
                     ": holds files and no checkpoint to go on from; choose another folder or add "
                     "--overwrite_output_dir"));
  if (checkpoint && s.resume_from_checkpoint == "false")
    problems.add(str(typed, ": holds another run's checkpoints, and ",
                     settings.as_typed("resume_from_checkpoint"),
                     " says not to go on from them; choose another folder or add --overwrite_output_dir"));
}

void check_model_layout(const ResolvedSettings& settings, const ModelConfig& model, int64_t /*world_size*/,
                        Problems& problems) {
  const Settings& s = settings.values;
  check_sequence_heads(settings, model, problems);
  if (uses_alibi(s, model) != model.alibi && !s.train_from_scratch)
    problems.add(str(settings.as_typed("position_embedding"), ": the weights were trained with ",
                     model.alibi ? "alibi" : "rope",
                     "; leave it out, or train new ones (train_from_scratch)"));
  if (s.attention != "aten") return;
  if (s.sliding_window < 0 && model.sliding_window > 0)
    problems.add(str(settings.as_typed("attention"), " with sliding_window ", model.sliding_window,
                     " of the model's config.json", kAtenCannot));
  if (s.position_embedding == "config" && model.alibi)
    problems.add(str(settings.as_typed("attention"), " with alibi of the model's config.json", kAtenCannot));
}

}  // namespace ithaca
