// The subcommands of `ithaca`. Each takes the words after its name and returns the exit code; mistakes of the
// user are thrown. tokenize and convert have headers of their own.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

using Words = std::vector<std::string>;

int run_help(const Words& words);
int run_check(const Words& words);
int run_list_cfg(const Words& words);
int run_copy_cfg(const Words& words);
int run_env(const Words& words);
// train, eval, generate: checks the settings here, where nothing heavy is loaded, then starts `ithaca-engine`
// with the same words.
int run_engine(const std::string& command, const Words& words);

// A recipe of configs/, compiled into this program. Files beside it (configs/NAME/...) belong to the recipe
// NAME.
struct Recipe {
  std::string_view name;  // "tiny.yaml", "tiny/config.json"
  std::string_view text;
};
std::span<const Recipe> recipes();

}  // namespace ithaca
