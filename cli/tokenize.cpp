#include "tokenize.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/data/document_reader.h"
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

[[noreturn]] void fail_output() {
  throw UserError(str("ithaca tokenize: standard output could not be written: ", std::strerror(errno)));
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
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size()) fail_output();
}

// What eval and train take, is read as they read it.
bool is_dataset(const std::filesystem::path& file) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending == ".jsonl" || ending == ".txt";
}

}  // namespace

int run_tokenize(const std::vector<std::string>& arguments) {
  const TokenizeArguments read = read_arguments(arguments);
  const Tokenizer tokenizer = Tokenizer::from_folder(read.folder);
  for (const std::string& remark : tokenizer.remarks())
    std::fprintf(stderr, "ithaca: warning: %s\n", remark.c_str());
  const auto print = [&](std::string_view text) {
    print_ids(tokenizer.encode(text, read.add_special_tokens));
  };
  if (is_dataset(read.file)) {
    DocumentReader documents(read.file);
    for (auto found = documents.next(1, 1); !found.empty(); found = documents.next(1, 1))
      documents.read(found[0], print);
  } else {
    const auto file = MappedFile::open(read.file);
    print({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
  }
  return kDone;
}

}  // namespace ithaca
