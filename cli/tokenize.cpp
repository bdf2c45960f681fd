#include "tokenize.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/json.h"
#include "ithaca/text/tokenizer.h"

namespace ithaca {
namespace {

constexpr const char* kUsage = "usage: ithaca tokenize DIR FILE [--add_special_tokens]";

struct TokenizeArguments {
  std::string folder, file;
  bool add_special_tokens = false;
};

bool read_flag_value(const std::string& value) {
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  throw UserError(str("--add_special_tokens: expected true or false, found \"", value, "\""));
}

TokenizeArguments read_arguments(const std::vector<std::string>& arguments) {
  static const std::string kFlag = "--add_special_tokens";
  TokenizeArguments read;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string argument = arguments[i];
    std::replace(argument.begin(), std::min(argument.end(), std::find(argument.begin(), argument.end(), '=')),
                 '-', '_');
    if (arguments[i].starts_with("--")) argument.replace(0, 2, "--");
    if (argument == kFlag) {
      const bool has_value =
          i + 1 < arguments.size() && (arguments[i + 1] == "true" || arguments[i + 1] == "false");
      read.add_special_tokens = has_value ? read_flag_value(arguments[++i]) : true;
    } else if (argument.starts_with(kFlag + "=")) {
      read.add_special_tokens = read_flag_value(argument.substr(kFlag.size() + 1));
    } else if (arguments[i].starts_with("--")) {
      throw UserError(str("ithaca tokenize: unknown flag ", arguments[i], "; ", kUsage));
    } else {
      names.push_back(arguments[i]);
    }
  }
  if (names.size() != 2)
    throw UserError(str("ithaca tokenize: expected a tokenizer's folder and a text file, found ",
                        names.size(), " names; ", kUsage));
  read.folder = names[0];
  read.file = names[1];
  return read;
}

void print_ids(const std::vector<int32_t>& ids) {
  std::string line;
  line.reserve(ids.size() * 6 + 1);
  char digits[16];
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) line += ' ';
    line.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
  line += '\n';
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size())
    throw UserError(
        "ithaca tokenize: standard output could not be written (disk full, or the reader has gone)");
}

}  // namespace

int run_tokenize(const std::vector<std::string>& arguments) {
  const TokenizeArguments read = read_arguments(arguments);
  const Tokenizer tokenizer = Tokenizer::from_folder(read.folder);
  const auto file = MappedFile::open(read.file);
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  if (!read.file.ends_with(".jsonl")) {
    print_ids(tokenizer.encode(text, read.add_special_tokens));
    return kDone;
  }
  std::size_t row = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++row;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = str(read.file, ":", row);
    const Json json = parse_json(line, where);
    if (!json.is_object() || !json.contains("text") || !json["text"].is_string())
      throw UserError(str(where, ": expected an object with the key \"text\" and a string"));
    print_ids(tokenizer.encode(json["text"].get_ref<const std::string&>(), read.add_special_tokens));
  }
  return kDone;
}

}  // namespace ithaca
