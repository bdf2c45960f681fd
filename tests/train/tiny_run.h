// A tiny model, texts, and settings to train on them: runs take milliseconds.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "ithaca/train/trainer.h"
#include "tests/support/tiny_folder.h"

namespace ithaca::testing_run {

class TinyRun {
 public:
  TinyRun();  // a TinyFolder, and docs.jsonl in it

  std::filesystem::path path(const std::string& name) const { return folder_.path(name); }

  // Trains from scratch with `arguments` (--key value ...) over the defaults below, on `ranks` threads;
  // returns rank 0's exit code.
  ExitCode train(const std::string& output, std::vector<std::string> arguments, int ranks = 1);

  // SHA-256 of output/checkpoint-N's weights and optimizer, and of the final weights: equal if and only if
  // the bits are.
  std::string bits_of_checkpoint(const std::string& output, int64_t step) const;
  std::string bits_of_weights(const std::string& output) const;
  std::string log(const std::string& output) const;  // rank 0's, of all runs into that folder
  void write(const std::string& name, const std::string& text) const { folder_.write(name, text); }
  std::string read(const std::string& name) const { return folder_.read(name); }

  StopSignal stop;

 private:
  TinyFolder folder_;
};

}  // namespace ithaca::testing_run
