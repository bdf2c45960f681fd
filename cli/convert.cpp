#include "cli/convert.h"

#include <filesystem>
#include <iostream>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr const char* kUsage =
    "usage: ithaca convert MODEL.gguf DIR [--dtype float32|bfloat16] [--overwrite]\n"
    "Writes a GGUF file (Llama architecture) as a Hugging Face folder: weights, config, tokenizer and chat "
    "template.\nOf a split file any part may be named; the others are read from the same folder.\n"
    "  --dtype      of the weights written; default float32\n"
    "  --overwrite  write into a folder that is not empty; files of the same names are replaced\n";

struct Options {
  std::vector<fs::path> paths;
  std::string dtype = "float32";
  bool overwrite = false;
  bool help = false;
};

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--overwrite") {
      options.overwrite = true;
    } else if (argument.starts_with("--dtype=")) {
      options.dtype = argument.substr(8);
    } else if (argument == "--dtype") {
      if (++i == arguments.size()) throw UserError("convert: --dtype needs a value: float32 or bfloat16");
      options.dtype = arguments[i];
    } else if (argument.starts_with('-')) {
      throw UserError(
          str("convert: unknown flag ", argument, "; known are --dtype and --overwrite\n", kUsage));
    } else {
      options.paths.emplace_back(argument);
    }
  }
  if (options.help) return options;
  if (options.paths.size() != 2)
    throw UserError(
        str("convert: expected two paths, MODEL.gguf and DIR, found ", options.paths.size(), "\n", kUsage));
  if (options.dtype != "float32" && options.dtype != "bfloat16")
    throw UserError(str("convert: --dtype ", options.dtype, " is not known; expected float32 or bfloat16"));
  return options;
}

void check_folder(const fs::path& folder, bool overwrite) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  if (!fs::is_directory(folder, error))
    throw UserError(str(folder.string(), ": is a file, expected a folder to write into"));
  if (!overwrite && !fs::is_empty(folder, error))
    throw UserError(str(folder.string(), ": the folder is not empty; name another one, or add --overwrite"));
}

}  // namespace

int run_convert(const std::vector<std::string>& arguments) {
  const Options options = parse(arguments);
  if (options.help) {
    std::cout << kUsage;
    return kDone;
  }
  check_folder(options.paths[1], options.overwrite);
  convert_gguf(options.paths[0], options.paths[1], options.dtype,
               [](const std::string& line) { std::cout << line << '\n'; });
  if (!std::cout.flush()) throw UserError("standard output cannot be written (is its disk full?)");
  return kDone;
}

}  // namespace ithaca
