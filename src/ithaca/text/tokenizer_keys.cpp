#include "ithaca/text/tokenizer_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using enum KeyUse;

constexpr std::string_view kTokenizer = "tokenizer.json";
constexpr std::string_view kConfig = "tokenizer_config.json";
constexpr std::string_view kMap = "special_tokens_map.json";
constexpr std::string_view kNamed =
    "names a token; one that is not in tokenizer.json is added behind its tokens";
constexpr std::string_view kPlain = "";
constexpr std::string_view kOffsets = "moves offsets only";
constexpr std::string_view kPadding = "padding and truncation are not the tokenizer's work here";
constexpr std::string_view kRecord = "a record of how the tokenizer was made or loaded";
constexpr std::string_view kSlow = "of the classes in Python that tokenizer.json replaces";

constexpr TokenizerKey kKeys[] = {
    {kTokenizer, "", "version", kHarmless, "\"1.0\" in every file"},
    {kTokenizer, "", "truncation", kHarmless, "documents are cut by cutoff_len alone"},
    {kTokenizer, "", "padding", kHarmless, kPadding},
    {kTokenizer, "", "added_tokens", kUsed, kPlain},
    {kTokenizer, "", "normalizer", kUsed, kPlain},
    {kTokenizer, "", "pre_tokenizer", kUsed, kPlain},
    {kTokenizer, "", "post_processor", kUsed, "whether a document begins with bos"},
    {kTokenizer, "", "decoder", kUsed, kPlain},
    {kTokenizer, "", "model", kUsed, kPlain},
    {kTokenizer, "added_tokens", "id", kUsed, "must be the id that tokenizers would give"},
    {kTokenizer, "added_tokens", "content", kUsed, kPlain},
    {kTokenizer, "added_tokens", "single_word", kUsed, kPlain},
    {kTokenizer, "added_tokens", "lstrip", kUsed, kPlain},
    {kTokenizer, "added_tokens", "rstrip", kUsed, kPlain},
    {kTokenizer, "added_tokens", "normalized", kUsed, kPlain},
    {kTokenizer, "added_tokens", "special", kUsed, kPlain},
    {kTokenizer, "model", "type", kUsed, "BPE; other models are refused"},
    {kTokenizer, "model", "dropout", kRefused, "merges left out at random"},
    {kTokenizer, "model", "unk_token", kUsed, "may be missing in vocab: a text that needs it is refused"},
    {kTokenizer, "model", "continuing_subword_prefix", kUsed, kPlain},
    {kTokenizer, "model", "end_of_word_suffix", kUsed, kPlain},
    {kTokenizer, "model", "fuse_unk", kUsed, kPlain},
    {kTokenizer, "model", "byte_fallback", kUsed, kPlain},
    {kTokenizer, "model", "ignore_merges", kUsed, kPlain},
    {kTokenizer, "model", "vocab", kUsed, kPlain},
    {kTokenizer, "model", "merges", kUsed, kPlain},
    {kTokenizer, "normalizer.Strip", "strip_left", kUsed, kPlain},
    {kTokenizer, "normalizer.Strip", "strip_right", kUsed, kPlain},
    {kTokenizer, "normalizer.Prepend", "prepend", kUsed, kPlain},
    {kTokenizer, "normalizer.Replace", "pattern", kUsed, kPlain},
    {kTokenizer, "normalizer.Replace", "content", kUsed, kPlain},
    {kTokenizer, "normalizer.Sequence", "normalizers", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.ByteLevel", "add_prefix_space", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.ByteLevel", "use_regex", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.ByteLevel", "trim_offsets", kHarmless, kOffsets},
    {kTokenizer, "pre_tokenizer.Split", "pattern", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Split", "behavior", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Split", "invert", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Digits", "individual_digits", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Punctuation", "behavior", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Metaspace", "replacement", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Metaspace", "prepend_scheme", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Metaspace", "add_prefix_space", kUsed, "the older spelling"},
    {kTokenizer, "pre_tokenizer.Metaspace", "split", kUsed, kPlain},
    {kTokenizer, "pre_tokenizer.Metaspace", "str_rep", kHarmless, "the replacement once more, in old files"},
    {kTokenizer, "pre_tokenizer.Sequence", "pretokenizers", kUsed, kPlain},
    {kTokenizer, "post_processor.ByteLevel", "add_prefix_space", kHarmless, kOffsets},
    {kTokenizer, "post_processor.ByteLevel", "use_regex", kHarmless, kOffsets},
    {kTokenizer, "post_processor.ByteLevel", "trim_offsets", kHarmless, kOffsets},
    {kTokenizer, "post_processor.TemplateProcessing", "single", kUsed, kPlain},
    {kTokenizer, "post_processor.TemplateProcessing", "pair", kHarmless, "two texts are never joined"},
    {kTokenizer, "post_processor.TemplateProcessing", "special_tokens", kUsed, kPlain},
    {kTokenizer, "post_processor.BertProcessing", "sep", kUsed, kPlain},
    {kTokenizer, "post_processor.BertProcessing", "cls", kUsed, kPlain},
    {kTokenizer, "post_processor.RobertaProcessing", "sep", kUsed, kPlain},
    {kTokenizer, "post_processor.RobertaProcessing", "cls", kUsed, kPlain},
    {kTokenizer, "post_processor.RobertaProcessing", "trim_offsets", kHarmless, kOffsets},
    {kTokenizer, "post_processor.RobertaProcessing", "add_prefix_space", kHarmless, kOffsets},
    {kTokenizer, "post_processor.Sequence", "processors", kUsed, kPlain},
    {kTokenizer, "decoder.ByteLevel", "add_prefix_space", kHarmless, "no part of decoding"},
    {kTokenizer, "decoder.ByteLevel", "use_regex", kHarmless, "no part of decoding"},
    {kTokenizer, "decoder.ByteLevel", "trim_offsets", kHarmless, kOffsets},
    {kTokenizer, "decoder.Strip", "content", kUsed, kPlain},
    {kTokenizer, "decoder.Strip", "start", kUsed, kPlain},
    {kTokenizer, "decoder.Strip", "stop", kUsed, kPlain},
    {kTokenizer, "decoder.Replace", "pattern", kUsed, kPlain},
    {kTokenizer, "decoder.Replace", "content", kUsed, kPlain},
    {kTokenizer, "decoder.Metaspace", "replacement", kUsed, kPlain},
    {kTokenizer, "decoder.Metaspace", "prepend_scheme", kUsed, kPlain},
    {kTokenizer, "decoder.Metaspace", "add_prefix_space", kUsed, "the older spelling"},
    {kTokenizer, "decoder.Metaspace", "split", kHarmless, "no part of decoding"},
    {kTokenizer, "decoder.Metaspace", "str_rep", kHarmless, "the replacement once more, in old files"},
    {kTokenizer, "decoder.Sequence", "decoders", kUsed, kPlain},
    {kConfig, "", "bos_token", kUsed, kNamed},
    {kConfig, "", "eos_token", kUsed, kNamed},
    {kConfig, "", "unk_token", kUsed, kNamed},
    {kConfig, "", "sep_token", kUsed, kNamed},
    {kConfig, "", "pad_token", kUsed, kNamed},
    {kConfig, "", "cls_token", kUsed, kNamed},
    {kConfig, "", "mask_token", kUsed, kNamed},
    {kConfig, "", "*_token", kUsed, "a string under any other key that ends so: as pad_token"},
    {kConfig, "", "additional_special_tokens", kUsed,
     "added like pad_token, unless extra_special_tokens is there"},
    {kConfig, "", "extra_special_tokens", kUsed, "a list, or an object of name: token; added like pad_token"},
    {kConfig, "", "model_specific_special_tokens", kUsed, "an object of name: token; added like pad_token"},
    {kConfig, "", "added_tokens_decoder", kUsed,
     "tokens that tokenizer.json lacks are added in the order of their ids; where it is, "
     "special_tokens_map.json "
     "and added_tokens.json do not count"},
    {kConfig, "", "split_special_tokens", kUsed, "special tokens in a text are not looked for"},
    {kConfig, "", "chat_template", kUsed, "unless there is a chat_template.jinja"},
    {kConfig, "", "tokenizer_class", kUsed,
     "tokenizer.json's own rules count; a remark says where transformers would put the class's in their "
     "place"},
    {kConfig, "", "fast_tokenizer_files", kUsed,
     "another file than tokenizer.json for some release is refused"},
    {kConfig, "", "add_bos_token", kHarmless,
     "without effect beside a tokenizer.json: its post_processor decides"},
    {kConfig, "", "add_eos_token", kHarmless,
     "without effect beside a tokenizer.json; a document's end is always eos"},
    {kConfig, "", "add_prefix_space", kHarmless, "the pre_tokenizer of tokenizer.json decides"},
    {kConfig, "", "clean_up_tokenization_spaces", kHarmless, "not done for BPE"},
    {kConfig, "", "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", kRefused,
     "takes out spaces of decoded text"},
    {kConfig, "", "fix_mistral_regex", kRefused, "puts another expression in the place of tokenizer.json's"},
    {kConfig, "", "added_tokens_file", kHarmless, kRecord},
    {kConfig, "", "auto_map", kHarmless, "code of others is never run"},
    {kConfig, "", "backend", kHarmless, kRecord},
    {kConfig, "", "chat_control_tokens", kHarmless, "of chats that are cleaned in Python"},
    {kConfig, "", "device_map", kHarmless, kRecord},
    {kConfig, "", "files_loaded", kHarmless, kRecord},
    {kConfig, "", "from_slow", kHarmless, kRecord},
    {kConfig, "", "init_inputs", kHarmless, kRecord},
    {kConfig, "", "is_local", kHarmless, kRecord},
    {kConfig, "", "local_files_only", kHarmless, kRecord},
    {kConfig, "", "merges_file", kHarmless, kRecord},
    {kConfig, "", "name_or_path", kHarmless, kRecord},
    {kConfig, "", "processor_class", kHarmless, kRecord},
    {kConfig, "", "special_tokens_map_file", kHarmless, kRecord},
    {kConfig, "", "tokenizer_file", kHarmless, kRecord},
    {kConfig, "", "transformers_version", kHarmless, kRecord},
    {kConfig, "", "trust_remote_code", kHarmless, "code of others is never run"},
    {kConfig, "", "use_fast", kHarmless, kRecord},
    {kConfig, "", "verbose", kHarmless, kRecord},
    {kConfig, "", "vocab_file", kHarmless, kRecord},
    {kConfig, "", "max_len", kHarmless, kPadding},
    {kConfig, "", "max_length", kHarmless, kPadding},
    {kConfig, "", "model_input_names", kHarmless, kPadding},
    {kConfig, "", "model_max_length", kHarmless, kPadding},
    {kConfig, "", "pad_to_multiple_of", kHarmless, kPadding},
    {kConfig, "", "pad_token_type_id", kHarmless, kPadding},
    {kConfig, "", "padding", kHarmless, kPadding},
    {kConfig, "", "padding_side", kHarmless, kPadding},
    {kConfig, "", "stride", kHarmless, kPadding},
    {kConfig, "", "truncation", kHarmless, kPadding},
    {kConfig, "", "truncation_side", kHarmless, kPadding},
    {kConfig, "", "truncation_strategy", kHarmless, kPadding},
    {kConfig, "", "response_schema", kHarmless, "reads answers of a chat"},
    {kConfig, "", "response_template", kHarmless, "reads answers of a chat"},
    {kConfig, "", "do_lower_case", kHarmless, kSlow},
    {kConfig, "", "errors", kHarmless, kSlow},
    {kConfig, "", "keep_accents", kHarmless, kSlow},
    {kConfig, "", "legacy", kHarmless, kSlow},
    {kConfig, "", "remove_space", kHarmless, kSlow},
    {kConfig, "", "sp_model_kwargs", kHarmless, kSlow},
    {kConfig, "", "spaces_between_special_tokens", kHarmless, kSlow},
    {kConfig, "", "strip_accents", kHarmless, kSlow},
    {kConfig, "", "tokenize_chinese_chars", kHarmless, kSlow},
    {kConfig, "", "unk_id", kHarmless, kSlow},
    {kConfig, "", "use_default_system_prompt", kHarmless, kSlow},
    {kMap, "", "bos_token", kUsed,
     "comes before tokenizer_config.json's, unless that has added_tokens_decoder"},
    {kMap, "", "eos_token", kUsed, "likewise"},
    {kMap, "", "unk_token", kUsed, "likewise"},
    {kMap, "", "sep_token", kUsed, "likewise"},
    {kMap, "", "pad_token", kUsed, "likewise"},
    {kMap, "", "cls_token", kUsed, "likewise"},
    {kMap, "", "mask_token", kUsed, "likewise"},
    {kMap, "", "*_token", kUsed, "likewise"},
    {kMap, "", "additional_special_tokens", kUsed, "likewise"},
    {kMap, "", "extra_special_tokens", kUsed, "likewise; a list is added to tokenizer_config.json's"},
    {"added_tokens.json", "", "any", kUsed,
     "text: id; added like added_tokens_decoder, where tokenizer_config.json has none"},
    {"config.json", "", "bos_token_id, eos_token_id, pad_token_id", kHarmless,
     "of the model: no text's ids depend on them"},
    {"chat_template.jinja", "", "the whole file", kUsed, kPlain},
};

bool is_neutral(const Json& value) {
  return value.is_null() || value == false || (value.is_number() && value == 0);
}

class KeyCheck {
 public:
  explicit KeyCheck(std::string_view file) : file_(file) {}

  void object(std::string_view place, const JsonNode& node) {
    if (!node.value().is_object()) return;  // whoever reads it says so
    for (const auto& [key, value] : node.value().items()) check(place, key, value, node.where());
  }

  // A normalizer, pre_tokenizer, post_processor or decoder, and those inside it.
  void component(const std::string& section, const Json& node, const std::string& where) {
    if (!node.is_object() || !node.contains("type") || !node["type"].is_string()) return;
    const std::string place = section + "." + node["type"].get_ref<const std::string&>();
    for (const auto& [key, value] : node.items()) {
      if (key == "type") continue;
      check(place, key, value, where);
      if (!value.is_array() || !place.ends_with(".Sequence")) continue;
      for (const Json& inner : value) component(section, inner, where);
    }
  }

  std::vector<std::string> unknown;

 private:
  static bool matches(std::string_view pattern, std::string_view key, const Json& value) {
    if (pattern == key) return true;
    const bool is_token = value.is_string() || (value.is_object() && value.contains("content"));
    return pattern == "*_token" && key.ends_with("_token") && is_token;
  }

  void check(std::string_view place, const std::string& key, const Json& value, const std::string& where) {
    for (const TokenizerKey& known : kKeys) {
      if (known.file != file_ || known.place != place || !matches(known.key, key, value)) continue;
      if (known.use == kRefused && !is_neutral(value))
        throw UserError(str(where, ": the key \"", key, "\" (", known.note,
                            ") is not supported; take it out, or set it to null"));
      return;
    }
    const std::string name = place.empty() ? key : str(place, ".", key);
    if (seen_.insert(name).second) unknown.push_back(name);
  }

  std::string_view file_;
  std::unordered_set<std::string> seen_;
};

std::string_view word(KeyUse use) {
  return use == kUsed ? "used" : use == kHarmless ? "harmless" : "refused";
}

}  // namespace

std::span<const TokenizerKey> tokenizer_keys() {
  return kKeys;
}

void check_tokenizer_keys(std::string_view file, const JsonNode& root, std::vector<std::string>& remarks) {
  KeyCheck check(file);
  check.object("", root);
  if (file == kTokenizer && root.value().is_object()) {
    if (root.has("model")) check.object("model", root.at("model"));
    for (const char* section : {"normalizer", "pre_tokenizer", "post_processor", "decoder"})
      if (root.has(section)) check.component(section, root.at(section).value(), root.where());
    const bool has_list = root.has("added_tokens") && root.at("added_tokens").value().is_array();
    for (std::size_t i = 0; has_list && i < root.at("added_tokens").size(); ++i)
      check.object("added_tokens", root.at("added_tokens").item(i));
  }
  if (check.unknown.empty()) return;
  constexpr std::size_t kNamedKeys = 20;
  std::string names;
  for (std::size_t i = 0; i < std::min(check.unknown.size(), kNamedKeys); ++i)
    names += str(i ? ", " : "", check.unknown[i]);
  if (check.unknown.size() > kNamedKeys) names += str(" and ", check.unknown.size() - kNamedKeys, " more");
  remarks.push_back(str(root.where(), ": not read, because unknown: ", names));
}

std::string tokenizer_keys_markdown() {
  std::string text =
      "# Tokenizer folders\n\n"
      "What is read in the folder of a tokenizer, key by key; made from the program: `ithaca help tokenizers "
      "> "
      "docs/tokenizers.md`. *used*: it changes ids or text, as in transformers 5.23 with tokenizers "
      "0.23.3. *harmless*: it changes neither there. *refused*: it would; accepted only as null, false or 0. "
      "Other "
      "keys are named once at the start of a run. A model, normalizer, pre_tokenizer, post_processor or "
      "decoder of "
      "a type that is not built is refused by name.\n";
  std::string_view file;
  for (const TokenizerKey& key : kKeys) {
    if (key.file != file) {
      file = key.file;
      text += str("\n## ", file, "\n\n| key | | |\n|---|---|---|\n");
    }
    text += str("| ", key.place, key.place.empty() ? "" : ".", key.key, " | ", word(key.use), " | ", key.note,
                " |\n");
  }
  return text +
         "\n## Regular expressions\n\n"
         "They are Oniguruma's, run on PCRE2: every POSIX class, property and shorthand, and (?i), holds the "
         "characters "
         "that tokenizers 0.23.3 (Unicode 16) takes for it, whatever PCRE2's release. Refused by name: "
         "subexpression "
         "calls `\\g<..>`, conditions `(?(..)`, absent expressions `(?~..)`, callouts, `\\X` `\\y` `\\Y`, "
         "back references "
         "with a level or under `(?i)`, Oniguruma's own options but i, m and x, and a lookbehind of no fixed "
         "length. "
         "An expression may have 16,384 bytes, and one match 2,000,000 steps.\n";
}

}  // namespace ithaca
