#include "ithaca/train/log_sinks.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/train/memory.h"
#include "ithaca/train/progress.h"
#include "ithaca/train/trainer_state_json.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class Sinks : public ::testing::Test {
 protected:
  std::string text(const std::string& name) const { return read_file(folder_ / name, 1 << 20); }
  TemporaryFolder folder_;
};

StepRecord record_of(int64_t step) {
  StepRecord record;
  record.current_steps = step;
  record.total_steps = 8;
  record.epoch = static_cast<double>(step) / 4;
  record.loss = 2.0 + 1.0 / 3 / static_cast<double>(step);
  record.grad_norm = 0.7;
  record.lr = 2e-5;
  record.tokens_per_second = 1234.5;
  record.tokens_per_second_per_rank = 617.25;
  record.model_flops_per_second = 1.5e12;
  record.peak_memory_bytes = int64_t{3} << 30;
  record.total_tokens = step * 4096;
  record.elapsed_seconds = 3725.9;
  record.remaining_seconds = 59;
  return record;
}

TEST_F(Sinks, ALineHasTheFieldsKeysAndEveryDigit) {
  TrainerLog log(folder_ / "trainer_log.jsonl", std::nullopt);
  log.write(record_of(3));
  const std::string lines = text("trainer_log.jsonl");
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1);
  const Json line = parse_json(lines, "line");
  EXPECT_EQ(line["current_steps"], 3);
  EXPECT_EQ(line["total_steps"], 8);
  EXPECT_EQ(line["loss"].get<double>(), 2.0 + 1.0 / 3 / 3);  // bit for bit
  EXPECT_EQ(line["lr"].get<double>(), 2e-5);
  EXPECT_EQ(line["epoch"].get<double>(), 0.75);
  EXPECT_EQ(line["percentage"].get<double>(), 37.5);
  EXPECT_EQ(line["elapsed_time"], "1:02:05");
  EXPECT_EQ(line["remaining_time"], "0:00:59");
  EXPECT_EQ(line["throughput"].get<double>(), 1234.5);
  EXPECT_EQ(line["tokens_per_second"].get<double>(), 1234.5);
  EXPECT_EQ(line["total_tokens"], 12288);
  EXPECT_EQ(line["grad_norm"].get<double>(), 0.7);
  EXPECT_EQ(line["peak_memory_bytes"], int64_t{3} << 30);
  EXPECT_FALSE(line.contains("eval_loss"));
}

TEST_F(Sinks, NumbersThatAreNotFiniteStayValidJson) {
  StepRecord record = record_of(1);
  record.loss = NAN;
  record.grad_norm = INFINITY;
  record.eval_loss = -INFINITY;
  const std::string line = trainer_log_line(record);
  const Json json = parse_json(line, "line");
  EXPECT_EQ(json["loss"], "nan");
  EXPECT_EQ(json["grad_norm"], "inf");
  EXPECT_EQ(json["eval_loss"], "-inf");
  const auto back = parse_trainer_log_line(line);
  ASSERT_TRUE(back);
  EXPECT_TRUE(std::isnan(*back->loss));
  EXPECT_EQ(*back->grad_norm, INFINITY);
  EXPECT_EQ(*back->eval_loss, -INFINITY);
}

TEST_F(Sinks, AResumedRunHasEachStepOnce) {
  const fs::path file = folder_ / "trainer_log.jsonl";
  {
    TrainerLog log(file, std::nullopt);
    for (int64_t step = 1; step <= 6; ++step) log.write(record_of(step));
  }
  std::string torn = text("trainer_log.jsonl");
  torn.insert(0, "no JSON\n[1]\n{\"loss\": 1}\n");
  write_file(file, torn + trainer_log_line(record_of(4)).substr(0, 30));
  {
    TrainerLog log(file, 4);
    ASSERT_EQ(log.history().size(), 4u);
    EXPECT_EQ(*log.history()[2].loss, *record_of(3).loss);
    EXPECT_EQ(*log.history()[2].total_tokens, 12288);
    for (int64_t step = 5; step <= 8; ++step) log.write(record_of(step));
    EXPECT_EQ(log.history().size(), 8u);
  }
  std::string straight;
  for (int64_t step = 1; step <= 8; ++step) straight += trainer_log_line(record_of(step)) + "\n";
  EXPECT_EQ(text("trainer_log.jsonl"), straight);
  const TrainerLog fresh(file, std::nullopt);
  EXPECT_EQ(text("trainer_log.jsonl"), "");
}

TEST_F(Sinks, ALogThatCannotBeWrittenIsNamed) {
  EXPECT_THROW(TrainerLog(folder_ / "none" / "trainer_log.jsonl", std::nullopt), UserError);
}

TEST(Texts, AreShort) {
  EXPECT_EQ(clock_text(0), "0:00:00");
  EXPECT_EQ(clock_text(59.99), "0:00:59");
  EXPECT_EQ(clock_text(100 * 3600 + 61), "100:01:01");
  EXPECT_EQ(clock_text(-1), "-:--:--");
  EXPECT_EQ(clock_text(NAN), "-:--:--");
  EXPECT_EQ(clock_text(INFINITY), "-:--:--");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(7), "7");
  EXPECT_EQ(count_text(3.14159), "3.14");
  EXPECT_EQ(count_text(999.4), "999");
  EXPECT_EQ(count_text(999.6), "1.00k");
  EXPECT_EQ(count_text(12345), "12.3k");
  EXPECT_EQ(count_text(123456), "123k");
  EXPECT_EQ(count_text(NAN), "nan");
  EXPECT_EQ(bytes_text(1463000000), "1.46 GB");
  EXPECT_EQ(flops_text(1.234e12), "1.23 TFLOP/s");
  EXPECT_EQ(plain_line(record_of(3)),
            "step 3/8 (37.5%)  loss 2.111111  grad_norm 0.7  lr 2.000e-05  1,234 tok/s (617 a rank)  1.50 "
            "TFLOP/s  3.22 GB  "
            "1:02:05 elapsed, 0:00:59 left");
}

// Columns a terminal would use: code points, without colour sequences.
int columns(const std::string& text) {
  int count = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = text.find('m', i);
      continue;
    }
    count += (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
  }
  return count;
}

BarState bar_state() {
  BarState state;
  state.step = 37;
  state.total_steps = 200;
  state.fraction = 0.5;
  state.elapsed_seconds = 192;
  state.remaining_seconds = 860;
  state.last = record_of(5);
  state.last.eval_loss = 2.5;
  return state;
}

TEST(Bar, NeverWiderThanAskedAndSaysMoreWhereThereIsRoom) {
  std::size_t longest = 0;
  for (int width = 1; width <= 240; ++width)
    for (const bool unicode : {true, false})
      for (const bool colour : {true, false})
        EXPECT_LE(columns(bar_text(bar_state(), {width, unicode, colour})), width);
  for (int width = 40; width <= 240; ++width)
    longest = std::max(longest, bar_text(bar_state(), {width, false, false}).size());
  EXPECT_GT(longest, 130u);
  const std::string wide = bar_text(bar_state(), {200, true, false});
  for (const char* part : {" 37/200", "18%", "loss 2.0667", "1.23k tok/s", "grad 0.7", "lr 2.00e-05",
                           "3.22 GB", "0:03:12<0:14:20", "eval 2.5000", "1.50 TFLOP/s", "▄", "█"})
    EXPECT_THAT(wide, HasSubstr(part));
  const std::string usual = bar_text(bar_state(), {79, true, false});
  for (const char* part : {"loss", "tok/s", "GB", "<", "█"}) EXPECT_THAT(usual, HasSubstr(part));
  EXPECT_THAT(bar_text(bar_state(), {40, true, false}), HasSubstr("loss"));
}

TEST(Bar, AsciiHasNoOtherByte) {
  for (const double fraction : {0.0, 0.3, 1.0}) {
    BarState state = bar_state();
    state.fraction = fraction;
    for (const char c : bar_text(state, {120, false, false})) EXPECT_LT(static_cast<unsigned char>(c), 0x7F);
  }
}

TEST(Bar, FillsFromEmptyToFullAndMovesWithinAStep) {
  BarState state;
  state.total_steps = 4;
  const BarStyle style{60, true, false};
  EXPECT_THAT(bar_text(state, style),
              ::testing::AllOf(HasSubstr("0/4"), HasSubstr("  0%"), Not(HasSubstr("█"))));
  std::string before = bar_text(state, style);
  for (int i = 1; i <= 8; ++i) {
    state.fraction = i / 8.0;
    EXPECT_NE(bar_text(state, style), before);
    before = bar_text(state, style);
  }
  state.step = 4;
  state.fraction = 0;
  EXPECT_THAT(bar_text(state, style), ::testing::AllOf(HasSubstr("4/4"), HasSubstr("100%"), HasSubstr("█▏")));
  state.last.loss = NAN;
  EXPECT_THAT(bar_text(state, style), HasSubstr("loss nan"));
}

class ProgressTest : public Sinks {
 protected:
  void SetUp() override {
    Sinks::SetUp();
    fd_ = ::open((folder_ / "terminal").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_GE(fd_, 0);
  }
  void TearDown() override {
    ::close(fd_);
    Sinks::TearDown();
  }
  Progress::Options options() const {
    Progress::Options options;
    options.fd = fd_;
    options.total_steps = 8;
    return options;
  }
  int fd_ = -1;
};

TEST_F(ProgressTest, PlainLinesWhereThereIsNoTerminal) {
  {
    Progress progress(options());
    for (int64_t step = 1; step <= 8; ++step) {
      progress.tick(0.5);
      progress.step_done(step);
      if (step % 4 == 0) progress.log(record_of(step));
    }
  }
  EXPECT_EQ(text("terminal"), plain_line(record_of(4)) + "\n" + plain_line(record_of(8)) + "\n");
}

TEST_F(ProgressTest, ABarIsRedrawnInPlaceAndNotTooOften) {
  Progress::Options with_bar = options();
  with_bar.bar = true;
  with_bar.style = BarStyle{100, true, false};
  with_bar.redraws_per_second = 0.01;
  {
    Progress progress(with_bar);
    for (int64_t step = 1; step <= 8; ++step) {
      for (int i = 0; i < 1000; ++i) progress.tick(i / 1000.0);
      progress.step_done(step);
      progress.log(record_of(step));
    }
  }
  const std::string output = text("terminal");
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1);
  EXPECT_EQ(output.back(), '\n');
  const auto redraws = std::count(output.begin(), output.end(), '\r');
  EXPECT_GE(redraws, 2);
  EXPECT_LE(redraws, 5);
  EXPECT_THAT(output.substr(output.rfind('\r')),
              ::testing::AllOf(HasSubstr("8/8"), HasSubstr("100%"), HasSubstr("loss 2.0417")));
}

TEST_F(ProgressTest, MakesRoomForOtherLines) {
  Progress::Options with_bar = options();
  with_bar.bar = true;
  with_bar.style = BarStyle{80, false, false};
  {
    Progress progress(with_bar);
    progress.hide();
    ASSERT_EQ(::write(fd_, "a warning\n", 10), 10);
    progress.show();
    StepRecord evaluation;
    evaluation.current_steps = 2;
    evaluation.total_steps = 8;
    evaluation.eval_loss = 2.5;
    progress.log(evaluation);
  }
  // Each whole line starts on an erased line
  EXPECT_THAT(text("terminal"), HasSubstr("\r\x1b[Ka warning\n\r\x1b[K"));
  EXPECT_THAT(text("terminal"), HasSubstr("\r\x1b[Kstep 2/8 (25.0%)  eval_loss 2.500000  perplexity 12.18"));
}

TEST_F(Sinks, TrainerStateAndResultsHaveTheirKeys) {
  const std::vector<StepRecord> history{record_of(1), record_of(2)};
  const TrainResults train{1.5, 3e15, 2.25, 61.5, 4.0, 0.5};
  TrainerState state;
  state.global_step = 2;
  state.max_steps = 8;
  state.epoch = 0.5;
  state.num_train_epochs = 2;
  write_trainer_state(folder_ / "trainer_state.json", state, history, train);
  const Json json = read_json_file(folder_ / "trainer_state.json");
  for (const char* key :
       {"best_metric", "best_model_checkpoint", "epoch", "global_step", "is_hyper_param_search",
        "is_local_process_zero", "is_world_process_zero", "log_history", "max_steps", "num_train_epochs",
        "total_flos", "trial_name", "trial_params"})
    EXPECT_TRUE(json.contains(key)) << key;
  ASSERT_EQ(json["log_history"].size(), 3u);
  EXPECT_EQ(json["log_history"][1]["step"], 2);
  EXPECT_EQ(json["log_history"][1]["learning_rate"].get<double>(), 2e-5);
  EXPECT_EQ(json["log_history"][2]["train_loss"].get<double>(), 2.25);

  save_results(folder_.path(), "train", result_values(train));
  save_results(folder_.path(), "eval", result_values(EvalResults{2.0, 16384, 3.0, 1.0, 0.5, {}}));
  const Json eval = read_json_file(folder_ / "eval_results.json"),
             all = read_json_file(folder_ / "all_results.json");
  EXPECT_EQ(eval["perplexity"].get<double>(), std::exp(2.0));
  EXPECT_EQ(eval["eval_tokens"], 16384);
  EXPECT_FALSE(eval.contains("epoch"));
  EXPECT_EQ(all["train_loss"].get<double>(), 2.25);
  EXPECT_EQ(all["eval_loss"].get<double>(), 2.0);
  EXPECT_THAT(text("train_results.json"), HasSubstr("\n    \"epoch\": 1.5,\n"));
  EXPECT_THAT(results_table("train", result_values(train)),
              HasSubstr("\n  train_runtime            = 0:01:01\n"));
}

TEST_F(Sinks, ResultsThatAreNotFiniteAndADamagedUnion) {
  write_file(folder_ / "all_results.json", "{broken");
  save_results(folder_.path(), "eval", {{"eval_loss", NAN}, {"perplexity", INFINITY}});
  const Json all = read_json_file(folder_ / "all_results.json");
  EXPECT_EQ(all["eval_loss"], "nan");
  EXPECT_EQ(all["perplexity"], "inf");
}

TEST(Memory, PeakSeesWhatWasTouched) {
  const int64_t before = current_memory_bytes();
  EXPECT_GT(before, 1 << 20);
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  {
    std::vector<char> block(kBytes, 1);
    volatile char* use = block.data();
    use[kBytes / 2] = 2;
    EXPECT_GT(current_memory_bytes(), before + static_cast<int64_t>(kBytes) * 9 / 10);
  }
  EXPECT_GT(peak_memory_bytes(), before + static_cast<int64_t>(kBytes) * 9 / 10);
  EXPECT_LT(current_memory_bytes(), before + static_cast<int64_t>(kBytes) / 2);
}

}  // namespace
}  // namespace ithaca
