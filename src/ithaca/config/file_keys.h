// What Ithaca does with the keys of other people's files (config.json, generation_config.json, GGUF): every key that
// their usual readers know is declared as used, harmless or refused; a key that is in no list is named once in the
// log. docs/model_files.md is written from these declarations.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/json.h"
#include "ithaca/base/key_use.h"

namespace ithaca {

// Values of a refused key that change nothing.
enum class Unless { kNothing, kFalse, kZero, kOne, kZeroOrOne, kEmpty, kTrue };

struct FileKey {
  const char* name;  // one that ends with * stands for all that begin so
  KeyUse use;
  const char* remark;  // used: for what; harmless: why it changes nothing; refused: why
  Unless unless = Unless::kNothing;
};

const FileKey* find_key(std::span<const FileKey> keys, std::string_view name);

// Whether a refused key of this value changes nothing; null says nothing under every key. false and 0 are the same, as
// are true and 1.
bool changes_nothing(Unless unless, const Json& value);
// "false", "0 or 1"; empty where no value but null is accepted.
std::string accepted_values(Unless unless);

// Rows of a Markdown table, with its head.
std::string keys_markdown(std::span<const FileKey> keys);

// "FILE: a, b and 3 more keys are not known here and change nothing (WHY)"; empty where there are none.
std::string unknown_keys_note(const std::string& source, const std::vector<std::string>& names,
                              const std::string& why);

}  // namespace ithaca
