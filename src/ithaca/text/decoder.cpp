#include "ithaca/text/decoder.h"

#include <algorithm>
#include <cctype>

#include "ithaca/text/pattern.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::string_view kKnown = "ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, Sequence";

class DecodeBytes : public Decoder {
 public:
  explicit DecodeBytes(const ByteLevelAlphabet& alphabet) : alphabet_(alphabet) {}
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch&) const override {
    std::string bytes;
    for (const std::string& token : tokens) append_bytes(bytes, token);
    return {to_valid_utf8(bytes)};
  }

 private:
  // A token with any other character (an added one) stands for itself.
  void append_bytes(std::string& bytes, const std::string& token) const {
    const std::size_t before = bytes.size();
    for (std::size_t at = 0; at < token.size();) {
      const auto byte = alphabet_.byte_of(next_code_point(token, at));
      if (!byte) {
        bytes.resize(before);
        bytes += token;
        return;
      }
      bytes += *byte;
    }
  }
  ByteLevelAlphabet alphabet_;
};

// Runs of <0xHH> become their bytes if those are UTF-8, else one U+FFFD a byte.
class DecodeByteFallback : public Decoder {
 public:
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch&) const override {
    std::vector<std::string> out;
    std::string bytes;
    auto flush = [&] {
      if (is_valid_utf8(bytes) && !bytes.empty())
        out.push_back(bytes);
      else
        out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (is_byte_token(token)) {
        bytes += static_cast<char>(std::stoi(token.substr(3, 2), nullptr, 16));
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    return out;
  }

 private:
  static bool is_byte_token(const std::string& token) {
    return token.size() == 6 && token.starts_with("<0x") && token[5] == '>' &&
           std::isxdigit(static_cast<unsigned char>(token[3])) &&
           std::isxdigit(static_cast<unsigned char>(token[4]));
  }
};

class Fuse : public Decoder {
 public:
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch&) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    return {std::move(all)};
  }
};

class StripCharacter : public Decoder {
 public:
  explicit StripCharacter(const JsonNode& node)
      : content_(node.text("content")),
        start_(node.at("start").integer(0, INT32_MAX)),
        stop_(node.at("stop").integer(0, INT32_MAX)) {
    if (content_.empty()) node.at("content").fail("one character");
  }
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch&) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::int64_t i = 0; i < start_ && rest.starts_with(content_); ++i)
        rest.remove_prefix(content_.size());
      for (std::int64_t i = 0; i < stop_ && rest.ends_with(content_); ++i)
        rest.remove_suffix(content_.size());
      token = std::string(rest);
    }
    return tokens;
  }

 private:
  std::string content_;
  std::int64_t start_, stop_;
};

class ReplaceInTokens : public Decoder {
 public:
  explicit ReplaceInTokens(const JsonNode& node)
      : pattern_(node.at("pattern")), content_(node.text("content")) {}
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch& scratch) const override {
    for (std::string& token : tokens) token = pattern_.replace(std::move(token), content_, scratch);
    return tokens;
  }

 private:
  TextPattern pattern_;
  std::string content_;
};

class DecodeMetaspace : public Decoder {
 public:
  explicit DecodeMetaspace(const JsonNode& node)
      : mark_(node.text_or("replacement", "\u2581")),
        prepended_(node.flag_or("add_prefix_space", true) &&
                   node.text_or("prepend_scheme", "always") != "never") {
    if (mark_.empty()) node.at("replacement").fail("one character");
  }
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch&) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = unmark(tokens[i], i == 0 && prepended_ ? "" : " ");
    return tokens;
  }

 private:
  std::string unmark(const std::string& token, std::string_view by) const {
    std::string out;
    std::size_t at = 0;
    for (std::size_t found; (found = token.find(mark_, at)) != std::string::npos; at = found + mark_.size())
      out.append(token, at, found - at).append(by);
    return out.append(token, at);
  }
  std::string mark_;
  bool prepended_;
};

class DecoderSequence : public Decoder {
 public:
  DecoderSequence(const JsonNode& list, const ByteLevelAlphabet& alphabet) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (auto step = make_decoder(list.item(i), alphabet)) steps_.push_back(std::move(step));
  }
  std::vector<std::string> run(std::vector<std::string> tokens, RegexScratch& scratch) const override {
    for (const auto& step : steps_) tokens = step->run(std::move(tokens), scratch);
    return tokens;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(const JsonNode& node, const ByteLevelAlphabet& alphabet) {
  if (node.is_null()) return nullptr;
  const std::string type = node.text("type");
  if (type == "ByteLevel") return std::make_unique<DecodeBytes>(alphabet);
  if (type == "ByteFallback") return std::make_unique<DecodeByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Strip") return std::make_unique<StripCharacter>(node);
  if (type == "Replace") return std::make_unique<ReplaceInTokens>(node);
  if (type == "Metaspace") return std::make_unique<DecodeMetaspace>(node);
  if (type == "Sequence") return std::make_unique<DecoderSequence>(node.at("decoders"), alphabet);
  node.unsupported("decoder", type, kKnown);
}

}  // namespace ithaca
