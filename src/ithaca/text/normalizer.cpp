#include "ithaca/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/text/pattern.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::string_view kKnown =
    "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, Sequence";

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

struct CodePoints {
  char32_t first, last;
};
// The `tokenizers` library normalises by the tables of Unicode 9, in which these characters were not yet
// assigned: it neither reorders nor (de)composes them. Found by comparing every code point, alone and between
// combining marks, with tokenizers 0.23.3.
constexpr CodePoints kLeftAlone[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool is_left_alone(char32_t c) {
  if (c < kLeftAlone[0].first) return false;
  const auto* range =
      std::upper_bound(std::begin(kLeftAlone), std::end(kLeftAlone), c,
                       [](char32_t value, const CodePoints& points) { return value < points.first; });
  return c <= std::prev(range)->last;
}

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(int options) : options_(static_cast<utf8proc_option_t>(options)) {}
  std::string run(std::string text, RegexScratch&) const override {
    if (is_ascii(text)) return text;
    std::string out;
    out.reserve(text.size());
    std::size_t done = 0;
    for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      if (!is_left_alone(next_code_point(text, end))) continue;
      out.append(map(std::string_view(text).substr(done, begin - done))).append(text, begin, end - begin);
      done = end;
    }
    return out.append(map(std::string_view(text).substr(done)));
  }

 private:
  std::string map(std::string_view text) const {
    utf8proc_uint8_t* mapped = nullptr;
    const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &mapped, options_);
    if (length < 0) throw UserError(str("Unicode normalisation failed: ", utf8proc_errmsg(length)));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    return std::string(mapped, mapped + length);
  }

  utf8proc_option_t options_;
};

class Lowercase : public Normalizer {
 public:
  std::string run(std::string text, RegexScratch&) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const char32_t c = next_code_point(text, at);
      append_utf8(out, utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
      if (c == 0x130) append_utf8(out, 0x307);  // the one character whose lower case is two
    }
    return out;
  }
};

class StripAccents : public Normalizer {
 public:
  std::string run(std::string text, RegexScratch&) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end)
      if (!is_mark(next_code_point(text, end))) out.append(text, begin, end - begin);
    return out;
  }
};

class StripSpace : public Normalizer {
 public:
  explicit StripSpace(const JsonNode& node)
      : left_(node.flag_or("strip_left", true)), right_(node.flag_or("strip_right", true)) {}
  std::string run(std::string text, RegexScratch&) const override {
    std::size_t begin = 0, end = text.size();
    for (std::size_t at = 0; left_ && begin < text.size() && is_white_space(next_code_point(text, at));)
      begin = at;
    while (right_ && end > begin) {
      const char32_t last = last_code_point(text, end);
      if (!is_white_space(last)) break;
      end -= last < 0x80 ? 1 : last < 0x800 ? 2 : 3;
    }
    return text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const JsonNode& node) : prefix_(node.text("prepend")) {}
  std::string run(std::string text, RegexScratch&) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const JsonNode& node) : pattern_(node.at("pattern")), content_(node.text("content")) {}
  std::string run(std::string text, RegexScratch& scratch) const override {
    return pattern_.replace(std::move(text), content_, scratch);
  }

 private:
  TextPattern pattern_;
  std::string content_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(const JsonNode& list) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (auto step = make_normalizer(list.item(i))) steps_.push_back(std::move(step));
  }
  std::string run(std::string text, RegexScratch& scratch) const override {
    for (const auto& step : steps_) text = step->run(std::move(text), scratch);
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  const std::string type = node.text("type");
  if (type == "NFC") return std::make_unique<UnicodeForm>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  if (type == "NFD") return std::make_unique<UnicodeForm>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  if (type == "NFKC")
    return std::make_unique<UnicodeForm>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD")
    return std::make_unique<UnicodeForm>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Strip") return std::make_unique<StripSpace>(node);
  if (type == "Prepend") return std::make_unique<Prepend>(node);
  if (type == "Replace") return std::make_unique<Replace>(node);
  if (type == "Sequence") return std::make_unique<NormalizerSequence>(node.at("normalizers"));
  node.unsupported("normalizer", type, kKnown);
}

}  // namespace ithaca
