// Files and settings that are wrong, through the real program: exit code 2, the culprit named, once, in
// bounded time, on one rank and on two (where it may be found after the ranks have met).
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

using Words = std::vector<std::string>;

// A trained model folder `good` with a checkpoint in it, made once; each case spoils a copy.
const TinyFolder& trained() {
  static const std::unique_ptr<TinyFolder> folder = [] {
    auto made = std::make_unique<TinyFolder>();
    const Result result = run_program({ITHACA_PROGRAM,
                                       "train",
                                       "--model_name_or_path",
                                       made->path("model"),
                                       "--train_from_scratch",
                                       "--train_file",
                                       made->path("train.txt"),
                                       "--output_dir",
                                       made->path("good"),
                                       "--cutoff_len",
                                       "31",
                                       "--per_device_train_batch_size",
                                       "2",
                                       "--max_steps",
                                       "2",
                                       "--save_steps",
                                       "1",
                                       "--cache_dir",
                                       made->path("cache"),
                                       "--plot_loss",
                                       "false"});
    EXPECT_EQ(result.code, 0) << result.err;
    return made;
  }();
  return *folder;
}

void change_json(const TinyFolder& folder, const std::string& name,
                 const std::function<void(json&)>& change) {
  json value = folder.json(name);
  change(value);
  folder.write(name, value.dump(2));
}

struct BadInput {
  const char* name;
  std::function<void(const TinyFolder&)> spoil;
  Words more;
  std::vector<std::string> names;  // what the message must say
};

void PrintTo(const BadInput& bad, std::ostream* out) {
  *out << bad.name;
}

// `out` is the output folder of the spoilt run, `m` its model folder.
std::vector<BadInput> cases() {
  const auto write = [](const char* file, const std::string& text) {
    return [file, text](const TinyFolder& f) { f.write(file, text); };
  };
  const auto remove = [](const char* file) {
    return [file](const TinyFolder& f) { fs::remove(f.path(file)); };
  };
  const auto cut = [](const char* file, std::uintmax_t size) {
    return [file, size](const TinyFolder& f) { fs::resize_file(f.path(file), size); };
  };
  const auto config = [](const std::function<void(json&)>& change) {
    return [change](const TinyFolder& f) { change_json(f, "m/config.json", change); };
  };
  const auto nothing = [](const TinyFolder&) {};
  return {
      {"weights_cut", cut("m/model.safetensors", 5000), {}, {"m/model.safetensors", "truncated"}},
      {"weights_header_length",
       write("m/model.safetensors", std::string(64, '\xff')),
       {},
       {"m/model.safetensors"}},
      {"weights_empty", write("m/model.safetensors", ""), {}, {"m/model.safetensors"}},
      {"weights_missing", remove("m/model.safetensors"), {}, {"model.safetensors"}},
      {"weights_shape",
       config([](json& c) { c["intermediate_size"] = 44; }),
       {},
       {"gate_proj.weight", "44", "40"}},
      {"weights_layer_missing", config([](json& c) { c["num_hidden_layers"] = 3; }), {}, {"model.layers.2."}},
      {"weights_index_outside",
       [](const TinyFolder& f) {
         fs::remove(f.path("m/model.safetensors"));
         f.write("m/model.safetensors.index.json",
                 R"({"metadata": {}, "weight_map": {"model.norm.weight": "../good/model.safetensors"}})");
       },
       {},
       {"model.safetensors.index.json", "../good/model.safetensors"}},
      {"token_beyond_vocabulary",
       config([](json& c) { c["vocab_size"] = 50; }),
       {"--train_from_scratch"},
       {"vocab_size", "50"}},
      {"text_not_utf8", write("text.txt", "In the \xff\xfe beginning\n"), {}, {"text.txt", "UTF-8"}},
      {"text_empty", write("text.txt", ""), {}, {"text.txt"}},
      {"jsonl_without_text",
       write("docs.jsonl", "{\"text\": \"In the beginning\"}\n{\"words\": \"was\"}\n"),
       {"--train_file", "docs.jsonl"},
       {"docs.jsonl", "2", "text"}},
      {"jsonl_not_json",
       write("docs.jsonl", "{\"text\": \"In the beginning\"}\n{\"text\": \"was\n"),
       {"--train_file", "docs.jsonl"},
       {"docs.jsonl", "2"}},
      {"config_key_missing",
       config([](json& c) { c.erase("hidden_size"); }),
       {},
       {"config.json", "hidden_size"}},
      {"config_not_json", write("m/config.json", "{\"hidden_size\": "), {}, {"config.json"}},
      {"config_family_unknown",
       config([](json& c) { c["architectures"] = {"BertModel"}, c["model_type"] = "bert"; }),
       {},
       {"config.json", "BertModel"}},
      {"tokenizer_missing", remove("m/tokenizer.json"), {}, {"tokenizer.json"}},
      {"tokenizer_cut", cut("m/tokenizer.json", 300), {}, {"tokenizer.json"}},
      {"tokenizer_model_unknown",
       [](const TinyFolder& f) {
         change_json(f, "m/tokenizer.json", [](json& t) { t["model"]["type"] = "WordPiece"; });
       },
       {},
       {"tokenizer.json", "WordPiece"}},
      {"output_not_empty", write("out/notes.txt", "mine"), {}, {"output_dir", "out", "overwrite_output_dir"}},
      {"output_below_a_file", nothing, {"--output_dir", "text.txt/out"}, {"output_dir", "text.txt/out"}},
      {"cache_below_a_file", nothing, {"--cache_dir", "text.txt/cache"}, {"text.txt/cache"}},
      {"resume_no_checkpoint",
       [](const TinyFolder& f) { fs::create_directory(f.path("empty")); },
       {"--resume_from_checkpoint", "empty"},
       {"empty"}},
      {"resume_spoilt",
       [](const TinyFolder& f) {
         std::string bytes = f.read("m/checkpoint-2/model.safetensors");
         bytes[bytes.size() - 5] ^= 1;  // same size: only its hash tells
         f.write("m/checkpoint-2/model.safetensors", bytes);
       },
       {"--resume_from_checkpoint", "m/checkpoint-2"},
       {"checkpoint-2", "model.safetensors"}},
      {"resume_beyond_the_end",
       nothing,
       {"--resume_from_checkpoint", "m/checkpoint-2", "--max_steps", "1", "--nproc", "1",
        "--gradient_accumulation_steps", "1"},
       {"checkpoint-2", "max_steps"}},
      {"resume_of_another_run",
       nothing,
       {"--resume_from_checkpoint", "m/checkpoint-2", "--seed", "3"},
       {"checkpoint-2", "seed 42 then, 3 now"}},
      {"eval_file_not_utf8",
       write("eval.txt", "\xc3"),
       {"--eval_file", "eval.txt", "--eval_steps", "1"},
       {"eval.txt", "UTF-8"}},
      {"more_ranks_than_heads",
       nothing,
       {"--nproc", "4", "--sequence_parallel_size", "4", "--sequence_parallel_method", "ulysses"},
       {"3 query heads"}},
  };
}

class BadInputTest : public testing::TestWithParam<BadInput> {};

// Messages of the rank itself ("ithaca: error: ..."), of its log ("error: ...") and of the parent ("...
// failed").
int times_told(const std::string& text) {
  int count = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    count += line.find("error:") != std::string::npos || line.find(" failed (") != std::string::npos ? 1 : 0;
  return count;
}

// Paths in `words` that a case may name are made absolute by the folder.
Words train(const TinyFolder& folder, const Words& more) {
  Words words = {ITHACA_PROGRAM,
                 "train",
                 "--model_name_or_path",
                 folder.path("m"),
                 "--train_file",
                 folder.path("text.txt"),
                 "--output_dir",
                 folder.path("out"),
                 "--cutoff_len",
                 "31",
                 "--per_device_train_batch_size",
                 "2",
                 "--max_steps",
                 "2",
                 "--cache_dir",
                 folder.path("cache"),
                 "--ddp_timeout",
                 "10",
                 "--plot_loss",
                 "false"};
  for (std::size_t i = 0; i < more.size(); ++i) {
    const bool is_path = i > 0 && (more[i - 1].ends_with("_file") || more[i - 1].ends_with("_dir") ||
                                   more[i - 1] == "--resume_from_checkpoint");
    words.push_back(is_path ? folder.path(more[i]) : more[i]);
  }
  return words;
}

// The runs of a case go side by side: on one rank, and on two unless the case says how many.
TEST_P(BadInputTest, ExitsWithTwoAndNamesTheCulpritOnce) {
  const BadInput& bad = GetParam();
  const bool own_layout = std::find(bad.more.begin(), bad.more.end(), "--nproc") != bad.more.end();
  struct Run {
    TinyFolder folder;
    std::unique_ptr<Program> program;
  };
  std::vector<std::unique_ptr<Run>> runs;
  for (const Words& layout : {Words{}, Words{"--nproc", "2"}}) {
    if (own_layout && !layout.empty()) continue;
    auto run = std::make_unique<Run>();
    fs::copy(trained().path("good"), run->folder.path("m"), fs::copy_options::recursive);
    fs::copy(trained().path("train.txt"), run->folder.path("text.txt"));
    bad.spoil(run->folder);
    Words more = bad.more;
    more.insert(more.end(), layout.begin(), layout.end());
    run->program = std::make_unique<Program>(train(run->folder, more));
    runs.push_back(std::move(run));
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    SCOPED_TRACE(i == 0 ? "without --nproc 2" : "--nproc 2");
    const Result result = runs[i]->program->wait(20);
    EXPECT_FALSE(result.timed_out) << result.err;
    EXPECT_EQ(result.code, 2) << result.err;
    for (const std::string& name : bad.names) EXPECT_THAT(result.err, HasSubstr(name));
    EXPECT_EQ(times_told(result.err), 1) << "expected to be told once:\n" << result.err;
    EXPECT_THAT(result.err, AllOf(Not(HasSubstr("frame #")), Not(HasSubstr("[c10d]"))));
    EXPECT_FALSE(runs[i]->folder.has("out/model.safetensors"));
  }
}

INSTANTIATE_TEST_SUITE_P(EngineProcess, BadInputTest, testing::ValuesIn(cases()),
                         [](const auto& one) { return std::string(one.param.name); });

// A run that was refused has left nothing that refuses the mended one.
TEST(EngineProcessRefusal, TheMendedCommandStarts) {
  TinyFolder folder;
  fs::copy(trained().path("good"), folder.path("m"), fs::copy_options::recursive);
  fs::copy(trained().path("train.txt"), folder.path("text.txt"));
  const std::string weights = folder.read("m/model.safetensors");
  folder.write("m/model.safetensors", weights.substr(0, 5000));
  ASSERT_EQ(run_program(train(folder, {"--nproc", "2"})).code, 2);
  folder.write("m/model.safetensors", weights);
  const Result mended = run_program(train(folder, {"--nproc", "2"}));
  EXPECT_EQ(mended.code, 0) << mended.err;
}

// No parent of ours sums up here: the ranks must tell by themselves, and none may wait for one that is gone.
TEST(EngineProcessRefusal, RanksOfAnotherLauncherTellAndEnd) {
  struct Case {
    const char *file, *names;
    int code_of_rank_1;
  };
  // Every rank finds the first by itself; the second is found by rank 0 alone, for which rank 1 then waits in vain.
  for (const Case& bad :
       {Case{"m/model.safetensors", "model.safetensors", 2}, {"out/notes.txt", "output_dir", 4}}) {
    TinyFolder folder;
    fs::copy(trained().path("good"), folder.path("m"), fs::copy_options::recursive);
    fs::copy(trained().path("train.txt"), folder.path("text.txt"));
    folder.write(bad.file, "spoilt");
    const std::string port = std::to_string(free_port());
    const Words words = train(folder, {"--ddp_timeout", "3"});
    Program rank_0(words, torchrun_variables(0, 2, port)), rank_1(words, torchrun_variables(1, 2, port));
    const Result first = rank_0.wait(20), second = rank_1.wait(20);
    EXPECT_EQ(first.code, 2) << bad.file << first.err;
    EXPECT_EQ(second.code, bad.code_of_rank_1) << bad.file << second.err;
    EXPECT_THAT(first.err + second.err, HasSubstr(bad.names));
    EXPECT_LE(times_told(first.err), 1) << first.err;
    EXPECT_LE(times_told(second.err), 1) << second.err;
    EXPECT_THAT(first.err + second.err, AllOf(Not(HasSubstr("frame #")), Not(HasSubstr("[c10d]"))));
  }
}

}  // namespace
}  // namespace ithaca::testing_program
