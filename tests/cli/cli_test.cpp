// Runs the built `ithaca` program.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/config/tiny_config.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;
namespace fs = std::filesystem;

struct Result {
  int code = -1;
  std::string out, err;
  double seconds = 0;
};

class Cli : public testing::Test {
 protected:
  // Runs in the test's folder; `environment` is put before the command ("RANK=0 WORLD_SIZE=2").
  Result run(const std::string& words, const std::string& environment = "") const {
    const std::string out = (folder_.path() / ".out").string(), err = (folder_.path() / ".err").string();
    // A launcher around the tests must not be taken for one of this run.
    const std::string line = "cd '" + folder_.path().string() +
                             "' && env -u RANK -u WORLD_SIZE -u LOCAL_RANK -u SLURM_PROCID " + environment +
                             " " + ITHACA_PROGRAM " " + words + " >" + out + " 2>" + err + " </dev/null";
    const auto start = std::chrono::steady_clock::now();
    const int status = std::system(line.c_str());
    Result result;
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.out = text_of(out);
    result.err = text_of(err);
    return result;
  }
  static std::string text_of(const fs::path& file) {
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  }
  // A config with which nothing is wrong; `more` is added.
  std::string good_config(const std::string& more = "") const {
    folder_.write("model/config.json", kTinyConfig);
    folder_.write("text.txt", "In the beginning");
    return folder_.write("run.yaml",
                         "model_name_or_path: model\ntrain_file: text.txt\noutput_dir: out\n" + more);
  }
  TemporaryFolder folder_;
};

TEST_F(Cli, HelpOfEverything) {
  for (const char* words : {"", "help", "--help", "-h"}) {
    const Result result = run(words);
    EXPECT_EQ(result.code, 0) << words;
    EXPECT_THAT(result.out, HasSubstr("ithaca train FILE")) << words;
    EXPECT_THAT(result.err, IsEmpty());
  }
  for (const char* name :
       {"train", "eval", "generate", "tokenize", "convert", "check", "env", "list-cfg", "copy-cfg"}) {
    EXPECT_THAT(run(std::string("help ") + name).out, StartsWith(std::string("ithaca ") + name));
    EXPECT_EQ(run(std::string(name) + " --help").out, run(std::string("help ") + name).out);
  }
  EXPECT_THAT(run("help train").out,
              AllOf(HasSubstr("--sequence_parallel_size"), HasSubstr("--ds_sequence_parallel_size")));
  EXPECT_THAT(run("help layout").out, AllOf(HasSubstr("--nproc"), Not(HasSubstr("--cutoff_len"))));
  EXPECT_THAT(run("--version").out, StartsWith("ithaca "));
}

TEST_F(Cli, HelpCheckAndListAnswerAtOnce) {
  const std::string config = good_config();
  for (const std::string& words : {std::string("help"), std::string("list-cfg"), "check cfg " + config}) {
    double fastest = 1e9;
    for (int i = 0; i < 5; ++i) fastest = std::min(fastest, run(words).seconds);
    EXPECT_LT(fastest, 0.1) << words;
  }
}

TEST_F(Cli, MistakesExitWithTwo) {
  struct Case {
    const char *words, *names;
  };
  const Case cases[] = {{"trian x.yaml", "trian is no command"},
                        {"help nothing", "no such topic"},
                        {"check", "expected a settings file"},
                        {"check cfg absent.yaml", "absent.yaml: no such file"},
                        {"train", "model_name_or_path is missing"},
                        {"train --bogus 1", "--bogus 1: unknown setting"},
                        {"train smollm2_135m_sp2_cpu", "ithaca copy-cfg smollm2_135m_sp2_cpu ."},
                        {"eval", "eval_file is missing"},
                        {"generate --model_name_or_path gone", "prompt is missing"},
                        {"list-cfg -p nothing_like_it", "no recipe has such a name"},
                        {"list-cfg extra", "-p PATTERN"},
                        {"copy-cfg", "expected NAME and DIR"},
                        {"copy-cfg nothing .", "no such recipe"},
                        {"copy-cfg ../run .", "no such recipe"},
                        {"env extra", "expected no arguments"},
                        {"tokenize", "ithaca: error:"},
                        {"convert", "ithaca: error:"}};
  for (const Case& bad : cases) {
    const Result result = run(bad.words);
    EXPECT_EQ(result.code, 2) << bad.words;
    EXPECT_THAT(result.err, AllOf(StartsWith("ithaca: error: "), HasSubstr(bad.names))) << bad.words;
  }
}

TEST_F(Cli, CheckShowsOriginsAndLayout) {
  const Result result =
      run("check cfg " + good_config("sequence_parallel_size: 2\ncutoff_len: 7\n") + " --nproc 4 --bf16");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("run.yaml:4"), HasSubstr("bf16: true  # --bf16"), HasSubstr("4 = 2 data x 2 sequence"),
            HasSubstr("9 query heads, 3 kv heads of 4"), HasSubstr("No problems found.")));
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("attention      ithaca (auto on the CPU); causal\n"),
                    HasSubstr("method         ulysses 2: 9 query heads over 2 ranks are 5 against 4")));
  EXPECT_THAT(result.out, HasSubstr("0     0     0        4       0..3  0..4         0..1      55.56 %"));
  EXPECT_THAT(result.out, HasSubstr("1     0     1        3       4..6  5..8         1..2      44.44 %"));
  EXPECT_THAT(result.out, HasSubstr("imbalance 1.111 "));
}

TEST_F(Cli, CheckShowsTheGridOfAHybrid) {
  const std::string config = good_config("sequence_parallel_size: 4\nulysses_degree: 2\ncutoff_len: 64\n");
  const Result inner = run("check cfg " + config + " --nproc 4");
  EXPECT_EQ(inner.code, 0) << inner.err;
  EXPECT_THAT(inner.out, HasSubstr("method         hybrid ring 2 x ulysses 2: as the settings say\n"));
  EXPECT_THAT(inner.out, HasSubstr("    0    1\n                     2    3\n"));
  // zigzag: ring rank 0 has the first and the last quarter, of which Ulysses rank 1 holds the last
  EXPECT_THAT(inner.out, HasSubstr("1     0     1        16      48..63  5..8         1..2      22.22 %"));
  EXPECT_THAT(inner.out, AllOf(HasSubstr("*  hybrid ring 2 x ulysses 2  1.111"), HasSubstr("   ring 4 "),
                               HasSubstr("   ulysses 4 "), HasSubstr("   kv_allgather 4 ")));
  const Result outer = run("check cfg " + config + " --nproc 4 --sequence_parallel_order ring_inner");
  EXPECT_THAT(outer.out, HasSubstr("    0    2\n                     1    3\n"));
  const Result field = run("check cfg " + good_config() +
                           " --nproc 8 --context-parallel-size 8 --context-parallel-algo hybrid_cp_algo "
                           "--ulysses-degree-in-cp 2 --cp-window-size 2 --use-cp-send-recv-overlap "
                           "--use-flash-attn-triton --sliding_window 64");
  EXPECT_EQ(field.code, 0) << field.err;
  EXPECT_THAT(field.out, AllOf(HasSubstr("hybrid ring 4 (inner ring 2) x ulysses 2"),
                               HasSubstr("ithaca (flash on the CPU); causal, window of 64 tokens"),
                               HasSubstr("note           --use-flash-attn-triton: there is no Triton here")));
}

TEST_F(Cli, SequenceParallelismIsRefusedBeforeAnyRankStarts) {
  const std::string config = good_config();
  const Result result = run("train " + config +
                            " --nproc 8 --context-parallel-size 8 --context-parallel-algo adaptive_cp_algo "
                            "--cp-window-size 3 --sparse_attention.block 5");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("--context-parallel-algo adaptive_cp_algo"),
                    HasSubstr("--cp-window-size 3 with"), HasSubstr("--sparse_attention.block 5 with")));
  EXPECT_THAT(run("train " + config + " --nproc 12 --ds-sequence-parallel-size 12").err,
              HasSubstr("--ds-sequence-parallel-size 12: the model has 9 query heads"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
}

TEST_F(Cli, CheckPrintsAllProblemsAtOnceAndTheSettings) {
  const Result result = run("check cfg " + good_config("cutof_len: 5\nseed: x\n") +
                            " --train_file gone.txt --context-parallel-size 4");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("run.yaml:4: cutof_len"), HasSubstr("run.yaml:5: seed: x"),
                    HasSubstr("--train_file gone.txt"), HasSubstr("--context-parallel-size 4 needs 4 ranks"),
                    HasSubstr("--nproc 4")));
  EXPECT_THAT(result.out, HasSubstr("sequence_parallel_size: 4  # --context-parallel-size"));
}

TEST_F(Cli, CheckKnowsTheModel) {
  const std::string config = good_config();
  EXPECT_THAT(run("check cfg " + config + " --ds-sequence-parallel-size 10 --nproc 10").err,
              HasSubstr("9 query heads"));
  EXPECT_THAT(run("check cfg " + config + " --sequence_parallel_size 10 --nproc 10").out,
              HasSubstr("hybrid ring 2 x ulysses 5: 10 ranks are more than the 9 query heads"));
  EXPECT_THAT(run("check cfg " + config + " --nproc 2").out,
              AllOf(HasSubstr("(1/2 of its states)"), HasSubstr("bytes a step   a rank sends")));
  EXPECT_THAT(run("check cfg " + config).out, Not(HasSubstr("bytes a step")));
  folder_.write("model/config.json", "{\"vocab_size\": -1}");
  const Result result = run("check cfg " + config);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("vocab_size is -1"), HasSubstr("hidden_size is missing")));
}

// Weights 2 bytes, gradients 4, two moments 8, and the 2 bytes of a master that its weight lacks.
TEST_F(Cli, CheckCountsWhatABf16RunHolds) {
  const std::string config = good_config("bf16: true\nzero_stage: 1\n");
  folder_.write("model/config.json",
                R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
                    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "hidden_act": "silu",
                    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
                    "rms_norm_eps": 1e-5, "tie_word_embeddings": true})");
  const Result result = run("check cfg " + config);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("134515008 parameters"));
  EXPECT_THAT(result.out,
              HasSubstr("weights 269.03 MB, gradients 538.06 MB (float32), optimizer 1345.15 MB"));
  EXPECT_THAT(run("check cfg " + config + " --zero_stage 3").err, HasSubstr("stage 1 is what runs"));
}

TEST_F(Cli, AttentionKernelsOfGpusAreRefusedBeforeAnyRankStarts) {
  const std::string config = good_config();
  for (const char* command : {"check cfg ", "train "}) {
    const Result result = run(command + config + " --attention cudnn");
    EXPECT_EQ(result.code, 2) << command;
    EXPECT_THAT(result.err, HasSubstr("--attention cudnn: needs an NVIDIA GPU")) << command;
  }
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
}

TEST_F(Cli, TheModelMayBeNamedByItsConfig) {
  const std::string config = good_config("train_from_scratch: true\n");
  const Result result = run("check cfg " + config + " --model_name_or_path model/config.json");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("9 query heads"));
}

TEST_F(Cli, TrainRefusesBeforeAnyRankStarts) {
  const std::string config = good_config();
  const Result result = run("train " + config + " --sequence_parallel_size 2");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              HasSubstr("type: ithaca train " + config + " --sequence_parallel_size 2 --nproc 2"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
}

TEST_F(Cli, LauncherDecidesTheNumberOfRanks) {
  const std::string config = good_config("nproc: 2\n");
  const std::string launcher =
      "RANK=0 WORLD_SIZE=3 LOCAL_RANK=0 LOCAL_WORLD_SIZE=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=29999";
  EXPECT_THAT(run("check cfg " + config, launcher).out, HasSubstr("3 = 3 data x 1 sequence"));
  const Result result = run("train " + config + " --sequence_parallel_size 2 --nproc 5", launcher);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("--nproc 5: this process is one of 3"), HasSubstr("the 3 ranks of this run")));
}

TEST_F(Cli, RecipesAreListedCopiedAndValid) {
  const Result list = run("list-cfg");
  EXPECT_THAT(list.out, AllOf(HasSubstr("smollm2_135m_sp2_cpu "), HasSubstr("smollm2_135m_single_cpu "),
                              HasSubstr("smollm2_135m_ring2_cpu "), HasSubstr("smollm2_135m_hybrid4_cpu "),
                              HasSubstr("tiny_llama_scratch_cpu ")));
  EXPECT_THAT(run("list-cfg -p sp2").out, AllOf(HasSubstr("smollm2_135m_sp2_cpu"), Not(HasSubstr("single"))));
  EXPECT_THAT(run("list-cfg --pattern 'tiny*cpu'").out, StartsWith("tiny_llama_scratch_cpu"));
  int copied = 0;
  std::istringstream lines(list.out);
  for (std::string name; lines >> name; std::getline(lines, name)) {
    ASSERT_EQ(run("copy-cfg " + name + " cfg").code, 0) << name;
    EXPECT_EQ(text_of(folder_.path() / "cfg" / (name + ".yaml")),
              text_of(fs::path(ITHACA_SOURCE_DIR) / "configs" / (name + ".yaml")));
    folder_.write("text.txt", "In the beginning");
    folder_.write("model/config.json", kTinyConfig);
    const Result check = run("check cfg cfg/" + name +
                             ".yaml --model_name_or_path model --train_file text.txt --eval_file text.txt");
    EXPECT_EQ(check.code, 0) << name << check.err;
    ++copied;
  }
  EXPECT_EQ(copied, 5);
  EXPECT_TRUE(fs::exists(folder_.path() / "cfg/tiny_llama_scratch_cpu/config.json"));
  const Result again = run("copy-cfg tiny_llama_scratch_cpu.yaml cfg");
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("exists already"));
}

TEST_F(Cli, EnvShowsNoSecrets) {
  const Result result = run("env", "API_TOKEN=hunter2");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("libtorch"), HasSubstr("cores"), HasSubstr("memory"),
                                HasSubstr("launcher"), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(result.out,
              ContainsRegex("vector code +(baseline|avx2|avx512|avx512_bf16); attention auto takes "));
  EXPECT_THAT(run("env", "ITHACA_CPU_TIER=baseline").out,
              ContainsRegex("vector code +baseline; attention auto takes our own"));
  EXPECT_THAT(run("env", "ITHACA_CPU_TIER=mmx").out,
              HasSubstr("not usable: ITHACA_CPU_TIER is \"mmx\"; this processor has baseline"));
}

}  // namespace
}  // namespace ithaca
