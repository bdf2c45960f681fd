// What the tests that run whole programs have in common: a tiny training, and conditions to wait for.
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/run_program.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_program {

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Looks every few milliseconds, for at most `seconds`.
inline bool wait_until(double seconds, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

inline int times(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// From scratch, a global batch of 4 rows of 31 tokens, 4 steps unless `more` says so; cached in folder/cache.
inline Words train_words(const TinyFolder& folder, const std::string& output, const Words& more = {}) {
  return Words{ITHACA_PROGRAM,
               "train",
               "--model_name_or_path",
               folder.path("model"),
               "--train_from_scratch",
               "--train_file",
               folder.path("train.txt"),
               "--output_dir",
               folder.path(output),
               "--cutoff_len",
               "31",
               "--per_device_train_batch_size",
               "4",
               "--max_steps",
               "4",
               "--logging_steps",
               "1",
               "--learning_rate",
               "0.01",
               "--cache_dir",
               folder.path("cache"),
               "--ddp_timeout",
               "60"} +
         more;
}

inline std::vector<double> losses(const TinyFolder& folder, const std::string& output) {
  std::vector<double> result;
  for (const nlohmann::json& line : folder.json_lines(output + "/trainer_log.jsonl"))
    result.push_back(line.at("loss").get<double>());
  return result;
}

// For a shell: every word in quotes of its own.
inline std::string quoted(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "'" : " '") + word + "'";
  return text;
}

}  // namespace ithaca::testing_program
