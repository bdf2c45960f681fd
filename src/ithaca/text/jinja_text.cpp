#include "ithaca/text/jinja_text.h"

#include <algorithm>
#include <array>

namespace ithaca {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

bool opens_tag(std::string_view source, std::size_t at) {
  return source[at] == '{' && at + 1 < source.size() &&
         (source[at + 1] == '{' || source[at + 1] == '%' || source[at + 1] == '#');
}

class Canonical {
 public:
  explicit Canonical(std::string_view source) : in_(source) {
    if (in_.ends_with('\n')) in_.remove_suffix(1);
  }

  std::string run() {
    while (at_ < in_.size()) {
      std::size_t tag = at_;
      while (tag < in_.size() && !opens_tag(in_, tag)) ++tag;
      text(in_.substr(at_, tag - at_), tag);
      at_ = tag;
      if (at_ < in_.size()) this->tag();
    }
    return std::move(out_);
  }

 private:
  // The text between two tags; `next` is where the second begins.
  void text(std::string_view text, std::size_t next) {
    if (dash_before_)
      text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    else if (block_before_ && text.starts_with('\n'))
      text.remove_prefix(1);
    const bool has_tag = next < in_.size();
    if (has_tag && next + 2 < in_.size() && in_[next + 2] == '-') {
      const std::size_t last = text.find_last_not_of(kSpace);
      text = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
    } else if (has_tag && in_[next + 1] != '{') {
      const std::size_t last = text.find_last_not_of(" \t");
      const std::size_t kept = last == std::string_view::npos ? 0 : last + 1;
      if (kept == 0 ? block_before_ || at_ == 0 : text[kept - 1] == '\n') text = text.substr(0, kept);
    }
    for (const char c : text) append(c);
  }

  void tag() {
    const char kind = in_[at_ + 1];
    if (kind == '#') return comment();
    const char close = kind == '{' ? '}' : '%';
    out_ += {'{', kind};
    at_ += 2;
    if (at_ < in_.size() && in_[at_] == '-') ++at_;
    dash_before_ = false;
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == close && in_.substr(at_ + 1, 1) == "}") {
        dash_before_ = in_[at_ - 1] == '-';
        if (dash_before_) out_.pop_back();
        out_ += {close, '}'};
        at_ += 2;
        break;
      }
      if (c == '\'' || c == '"') {
        literal(c);
        continue;
      }
      if (kSpace.find(c) == std::string_view::npos) out_ += c;
      ++at_;
    }
    block_before_ = kind == '%';
  }

  void comment() {
    const std::size_t end = in_.find("#}", at_ + 2);
    dash_before_ = end != std::string_view::npos && in_[end - 1] == '-';
    block_before_ = true;
    at_ = end == std::string_view::npos ? in_.size() : end + 2;
  }

  void literal(char quote) {
    out_ += '\'';
    for (++at_; at_ < in_.size() && in_[at_] != quote; ++at_) {
      if (in_[at_] == '\\' && at_ + 1 < in_.size()) out_ += in_[at_++];
      append(in_[at_]);
    }
    out_ += '\'';
    ++at_;
  }

  void append(char c) {
    if (c == '\n')
      out_ += "\\n";
    else
      out_ += c;
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  bool dash_before_ = false, block_before_ = false;
};

}  // namespace

std::string canonical_jinja(std::string_view source) {
  std::string out = Canonical(source).run();
  static constexpr std::array<std::string_view, 2> kKeys{"role", "content"};
  for (const std::string_view key : kKeys) {
    const std::string index = "['" + std::string(key) + "']";
    std::string shorter;
    std::size_t at = 0;
    for (std::size_t found; (found = out.find(index, at)) != std::string::npos; at = found + index.size())
      shorter.append(out, at, found - at).append(1, '.').append(key);
    out = shorter.append(out, at);
  }
  return out;
}

}  // namespace ithaca
