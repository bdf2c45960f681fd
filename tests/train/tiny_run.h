// A tiny model folder with a byte tokenizer, a text, and settings to train on them: runs take milliseconds.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "ithaca/train/trainer.h"

namespace ithaca::testing_run {

class TinyRun {
 public:
  TinyRun();   // writes model/ (config.json, tokenizer.json), train.txt, docs.jsonl into a folder of its own
  ~TinyRun();  // removes it
  TinyRun(const TinyRun&) = delete;
  TinyRun& operator=(const TinyRun&) = delete;

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  // Trains from scratch with `arguments` (--key value ...) over the defaults below, on `ranks` threads;
  // returns rank 0's exit code.
  ExitCode train(const std::string& output, std::vector<std::string> arguments, int ranks = 1);

  // SHA-256 of output/checkpoint-N's weights and optimizer, and of the final weights: equal if and only if
  // the bits are.
  std::string bits_of_checkpoint(const std::string& output, int64_t step) const;
  std::string bits_of_weights(const std::string& output) const;

  StopSignal stop;

 private:
  std::filesystem::path folder_;
};

}  // namespace ithaca::testing_run
