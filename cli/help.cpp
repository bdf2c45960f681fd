#include <cstdio>
#include <string>

#include "cli/commands.h"
#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf_keys.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/config/model_keys.h"
#include "ithaca/config/settings.h"
#include "ithaca/text/tokenizer_keys.h"

namespace ithaca {
namespace {

constexpr const char* kOverview =
    R"(Ithaca trains and fine-tunes Hugging Face language models on sequences of any length.

  ithaca train FILE [--setting value]...     train or fine-tune as FILE (YAML or JSON) says
  ithaca eval [FILE] [--setting value]...    loss and perplexity of a model on a text
  ithaca generate [FILE] --prompt TEXT ...   go on with a prompt
  ithaca tokenize DIR FILE                   token ids of a text
  ithaca convert MODEL.gguf DIR              a Hugging Face folder of a GGUF file
  ithaca check cfg FILE [--setting value]... all problems of a config, its settings and its layout
  ithaca list-cfg [-p PATTERN]               the recipes in this program
  ithaca copy-cfg NAME DIR                   copy one of them to DIR
  ithaca env                                 versions, processor, memory, launcher
  ithaca help [COMMAND | settings | GROUP]   this text; a command; all settings; those of one group
  ithaca help tokenizers                     what is read in a tokenizer's folder, key by key
  ithaca help model_files                    the keys of config.json, generation_config.json and GGUF files

First steps:
  ithaca list-cfg
  ithaca copy-cfg smollm2_135m_sp2_cpu .
  ithaca train smollm2_135m_sp2_cpu.yaml --model_name_or_path DIR --train_file book.txt --output_dir output/run
)";

constexpr const char* kRunning =
    R"(Settings come from FILE, then from --setting value, --setting=value or setting=value; the last wins.
--nproc N starts N ranks on this machine; under torchrun --no-python, srun or mpirun the ranks are theirs.
Exit codes: 0 done, 2 the user's mistake, 3 numbers went wrong, 4 a rank or the network failed, 75 stopped and saved.

)";

struct Page {
  std::string_view name, text;
  std::vector<std::string_view> groups;  // of settings
};

std::vector<Page> pages() {
  return {
      {"train",
       "ithaca train FILE [--setting value]...\n\nTrains the model and writes a Hugging Face folder to "
       "output_dir.\n",
       {"model", "data", "training", "evaluation", "output", "layout"}},
      {"eval",
       "ithaca eval [FILE] --model_name_or_path DIR --eval_file F --output_dir O [--cutoff_len N]\n\n"
       "Loss and perplexity over eval_file; writes eval_results.json to output_dir.\n",
       {"model", "data", "evaluation", "output", "layout"}},
      {"generate",
       "ithaca generate [FILE] --model_name_or_path DIR --prompt TEXT [--max_new_tokens N]\n\n"
       "Goes on with the prompt, the likeliest token each time, on one rank. --attention is for the "
       "prompt.\n",
       {"model", "generate"}},
      {"tokenize",
       "ithaca tokenize DIR FILE [--add_special_tokens]\n\n"
       "Prints the token ids of FILE with DIR/tokenizer.json: a .txt gives one line, a .jsonl one line a "
       "row.\n",
       {}},
      {"convert",
       "ithaca convert MODEL.gguf DIR\n\nWrites the model as a Hugging Face folder, with its tokenizer and "
       "chat template.\n",
       {}},
      {"check",
       "ithaca check cfg FILE [--setting value]...\n\n"
       "Prints the settings with their origins, what each rank would hold and send, and all problems at "
       "once\n"
       "(exit code 2 if there are any). Loads no model and touches no device.\n",
       {}},
      {"list-cfg",
       "ithaca list-cfg [-p PATTERN]\n\nNames the recipes in this program; PATTERN is a part of a name, or "
       "has * and ?.\n",
       {}},
      {"copy-cfg",
       "ithaca copy-cfg NAME DIR\n\nCopies a recipe and the files that belong to it to DIR; replaces "
       "nothing.\n",
       {}},
      {"env",
       "ithaca env\n\nVersions, processor, memory and launcher: what a bug report needs. Shows no secrets.\n",
       {}},
      {"help", kOverview, {}},
  };
}

// docs/model_files.md, whole.
std::string model_files_text() {
  return str(
      "<!-- made by: ithaca help model_files > docs/model_files.md -->\n"
      "# What is read of other people's files\n\n"
      "Every key and every tensor of a model folder or a GGUF file is **used**, **harmless** (it changes no "
      "number here), or "
      "**refused** by name with the values that would change nothing. A key that is in no table is named "
      "once in the log. "
      "tests/config compares the tables with transformers 4.57.6, transformers 5.23.0 and gguf 0.19.0.\n\n",
      model_keys_markdown(), "\n", weights_markdown(), "\n", gguf_keys_markdown());
}

}  // namespace

int run_help(const Words& words) {
  const std::string topic = words.empty() ? "" : words.front();
  if (topic.empty()) {
    std::fputs(kOverview, stdout);
    return kDone;
  }
  if (topic == "version") {
    std::puts("ithaca " ITHACA_VERSION);
    return kDone;
  }
  if (topic == "settings") {
    const bool markdown = words.size() > 1 && words[1] == "--markdown";
    std::fputs((markdown ? settings_markdown() : settings_help("")).c_str(), stdout);
    return kDone;
  }
  if (topic == "tokenizers") {
    std::fputs(tokenizer_keys_markdown().c_str(), stdout);
    return kDone;
  }
  if (topic == "model_files") {
    std::fputs(model_files_text().c_str(), stdout);
    return kDone;
  }
  for (const Page& page : pages()) {
    if (page.name != topic) continue;
    std::string text = str(page.text, "\n", page.groups.empty() ? "" : kRunning);
    for (std::string_view group : page.groups) text += settings_help(group) + "\n";
    std::fputs(text.c_str(), stdout);
    return kDone;
  }
  const std::string group = settings_help(topic);
  if (group.empty())
    throw UserError(str("help ", topic,
                        ": no such topic; expected a command, settings, or a group: model, data, training, "
                        "evaluation, output, layout, generate"));
  std::fputs(group.c_str(), stdout);
  return kDone;
}

}  // namespace ithaca
