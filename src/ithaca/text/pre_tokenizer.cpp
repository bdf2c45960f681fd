#include "ithaca/text/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "ithaca/text/split.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::string_view kKnown =
    "ByteLevel, Split, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit, Sequence";
// GPT-2's own expression.
constexpr std::string_view kByteLevelWords =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kWhitespaceWords =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}\s]+)";

// Rewrites every word through `edit(word, out)`, which appends what the word becomes.
template <class Edit>
void edit_words(Words& words, RegexScratch& scratch, Edit edit) {
  std::string out;
  out.reserve(words.text.size() + words.text.size() / 8);
  for (Span& span : words.spans) {
    const std::size_t begin = out.size();
    edit(std::string_view(words.text).substr(span.begin, span.end - span.begin), span.begin == 0, out);
    span = {begin, out.size()};
    scratch.check_growth(out.size());
  }
  words.text = std::move(out);
}

class PrefixSpace : public PreTokenizerStep {
 public:
  void run(Words& words, RegexScratch& scratch) const override {
    edit_words(words, scratch, [](std::string_view word, bool, std::string& out) {
      if (!word.starts_with(' ')) out += ' ';
      out += word;
    });
  }
};

class MapBytes : public PreTokenizerStep {
 public:
  explicit MapBytes(const ByteLevelAlphabet& alphabet) : alphabet_(alphabet) {}
  void run(Words& words, RegexScratch& scratch) const override {
    edit_words(words, scratch,
               [&](std::string_view word, bool, std::string& out) { alphabet_.append_mapped(out, word); });
  }

 private:
  ByteLevelAlphabet alphabet_;
};

class SplitByPattern : public PreTokenizerStep {
 public:
  SplitByPattern(TextPattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void run(Words& words, RegexScratch& scratch) const override {
    split_words(words, behavior_, invert_, [&](std::string_view word, std::vector<Span>& matches) {
      pattern_.find_all(word, scratch, matches);
    });
  }

 private:
  TextPattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class SplitByClass : public PreTokenizerStep {
 public:
  SplitByClass(bool (*in_class)(char32_t), Behavior behavior) : in_class_(in_class), behavior_(behavior) {}
  void run(Words& words, RegexScratch&) const override {
    split_words(words, behavior_, false, [&](std::string_view word, std::vector<Span>& matches) {
      for (std::size_t begin = 0, end = 0; begin < word.size(); begin = end)
        if (in_class_(next_code_point(word, end))) matches.push_back({begin, end});
    });
  }

 private:
  bool (*in_class_)(char32_t);
  Behavior behavior_;
};

class Metaspace : public PreTokenizerStep {
 public:
  explicit Metaspace(const JsonNode& node) : mark_(node.text_or("replacement", "\u2581")) {
    if (mark_.empty()) node.at("replacement").fail("one character");
    const bool add_prefix_space =
        node.flag_or("add_prefix_space", true);  // the older spelling of prepend_scheme
    const std::string scheme = node.text_or("prepend_scheme", "always");
    if (scheme != "always" && scheme != "first" && scheme != "never")
      node.at("prepend_scheme").fail("always, first or never");
    prepend_ = add_prefix_space && scheme != "never";
    only_first_ = scheme == "first";
    split_ = node.flag_or("split", true);
  }

  void run(Words& words, RegexScratch& scratch) const override {
    const bool starts_input = words.starts_input;
    edit_words(words, scratch, [&](std::string_view word, bool first, std::string& out) {
      const bool may_prepend = prepend_ && (!only_first_ || (first && starts_input));
      if (may_prepend && !word.starts_with(' ') && !word.starts_with(mark_)) out += mark_;
      for (const char c : word) {
        if (c == ' ')
          out += mark_;
        else
          out += c;
      }
    });
    if (!split_) return;
    split_words(
        words, Behavior::kMergedWithNext, false, [&](std::string_view word, std::vector<Span>& matches) {
          for (std::size_t at = 0; (at = word.find(mark_, at)) != std::string_view::npos; at += mark_.size())
            matches.push_back({at, at + mark_.size()});
        });
  }

 private:
  std::string mark_;
  bool prepend_, only_first_, split_;
};

Behavior read_behavior(const JsonNode& node, const std::string& fallback) {
  const std::string name = node.text_or("behavior", fallback);
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  node.at("behavior").fail("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonNode& node, const ByteLevelAlphabet& alphabet) {
  if (node.is_null()) return;
  add(node, alphabet);
  // The last step need not map: see maps_bytes().
  if (!steps_.empty() && dynamic_cast<MapBytes*>(steps_.back().get())) {
    steps_.pop_back();
    maps_bytes_ = true;
  }
}

void PreTokenizer::add(const JsonNode& node, const ByteLevelAlphabet& alphabet) {
  const std::string type = node.text("type");
  auto split = [&](TextPattern pattern, Behavior behavior, bool invert) {
    steps_.push_back(std::make_unique<SplitByPattern>(std::move(pattern), behavior, invert));
  };
  if (type == "Sequence") {
    const JsonNode list = node.at("pretokenizers");
    for (std::size_t i = 0; i < list.size(); ++i) add(list.item(i), alphabet);
  } else if (type == "ByteLevel") {
    if (node.flag_or("add_prefix_space", true)) steps_.push_back(std::make_unique<PrefixSpace>());
    if (node.flag_or("use_regex", true))
      split(TextPattern::regex(std::string(kByteLevelWords), node.where()), Behavior::kIsolated, false);
    steps_.push_back(std::make_unique<MapBytes>(alphabet));
  } else if (type == "Split") {
    split(TextPattern(node.at("pattern")), read_behavior(node, ""), node.flag_or("invert", false));
  } else if (type == "Digits") {
    const bool single = node.flag_or("individual_digits", false);
    steps_.push_back(
        std::make_unique<SplitByClass>(&is_numeric, single ? Behavior::kIsolated : Behavior::kContiguous));
  } else if (type == "Punctuation") {
    steps_.push_back(std::make_unique<SplitByClass>(&is_punctuation, read_behavior(node, "Isolated")));
  } else if (type == "Whitespace") {
    split(TextPattern::regex(std::string(kWhitespaceWords), node.where()), Behavior::kRemoved, true);
  } else if (type == "WhitespaceSplit") {
    steps_.push_back(std::make_unique<SplitByClass>(&is_white_space, Behavior::kRemoved));
  } else if (type == "Metaspace") {
    steps_.push_back(std::make_unique<Metaspace>(node));
  } else {
    node.unsupported("pre_tokenizer", type, kKnown);
  }
}

Words PreTokenizer::run(std::string text, bool starts_input, RegexScratch& scratch) const {
  Words words{std::move(text), {}, starts_input};
  if (!words.text.empty()) words.spans.push_back({0, words.text.size()});
  for (const auto& step : steps_) step->run(words, scratch);
  return words;
}

}  // namespace ithaca
