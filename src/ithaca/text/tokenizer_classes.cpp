#include "ithaca/text/tokenizer_classes.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

struct ClassRules {
  std::string_view name;  // without "Fast"
  const char* normalizer;
  const char* pre_tokenizer;
};

// From transformers 5.23.0, without what moves offsets only.
constexpr ClassRules kRules[] = {
    {"GPT2Tokenizer", "null", R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})"},
    {"GPTNeoXTokenizer", R"({"type": "NFC"})",
     R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})"},
    {"CohereTokenizer", R"({"type": "NFC"})",
     R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
         {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]})"},
    {"Qwen2Tokenizer", R"({"type": "NFC"})",
     R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex":
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
         "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})"},
    {"LlamaTokenizer", "null",
     R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": false})"},
    {"GemmaTokenizer", R"({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"})",
     R"({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false})"},
};

Json without_offsets(Json node) {
  if (node.is_object()) node.erase("trim_offsets");
  if (node.is_object() && node.contains("pretokenizers") && node["pretokenizers"].is_array())
    for (Json& inner : node["pretokenizers"])
      if (inner.is_object()) inner.erase("trim_offsets");
  return node;
}

Json member(const Json& tokenizer, const char* key) {
  return tokenizer.is_object() && tokenizer.contains(key) ? tokenizer[key] : Json();
}

bool maps_bytes(const Json& pre_tokenizer) {
  return pre_tokenizer.dump(-1, ' ', true, Json::error_handler_t::replace).find("\"ByteLevel\"") !=
         std::string::npos;
}

}  // namespace

void note_class_rules(std::string_view name, const Json& tokenizer, const std::string& source,
                      std::vector<std::string>& remarks) {
  if (name.ends_with("Fast")) name.remove_suffix(4);
  for (const ClassRules& rules : kRules) {
    if (rules.name != name) continue;
    const Json pre_tokenizer = without_offsets(member(tokenizer, "pre_tokenizer"));
    // transformers takes a byte-level file of this class as it is.
    if (name == "LlamaTokenizer" && maps_bytes(pre_tokenizer)) return;
    const bool same = pre_tokenizer == Json::parse(rules.pre_tokenizer) &&
                      member(tokenizer, "normalizer") == Json::parse(rules.normalizer);
    if (!same)
      remarks.push_back(str(source, ": read as it is; transformers 5 would put the rules of tokenizer_class ",
                            name,
                            " in the place of its normalizer and pre_tokenizer, and may give other tokens"));
  }
}

}  // namespace ithaca
