#include "ithaca/data/json_record.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/base/text_encoding.h"

namespace ithaca {
namespace {

constexpr std::size_t kNamedKeys = 8;       // in a message
constexpr std::size_t kNamedKeyBytes = 40;  // of each

// What is wrong with the line, for the user.
struct Malformed {
  std::string what;
};

Malformed malformed(const std::string& what, std::size_t at) {
  return {str(what, " (byte ", at, " of the line)")};
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += {static_cast<char>(0xC0 | (code >> 6)), tail(0)};
  } else if (code < 0x10000) {
    out += {static_cast<char>(0xE0 | (code >> 12)), tail(6), tail(0)};
  } else {
    out += {static_cast<char>(0xF0 | (code >> 18)), tail(12), tail(6), tail(0)};
  }
}

// Strings as they stand between their quotes, with escapes.
class RawString {
 public:
  RawString(std::string_view line, std::size_t begin, std::size_t end)
      : line_(line), bytes_(line.substr(begin, end - begin)), offset_(begin) {}
  std::string_view bytes() const { return bytes_; }

  // Appends what the escapes mean. Malformed for one that is none, half a surrogate pair, a bare control character
  // and bytes that are no UTF-8.
  void unescape(std::string& out) const {
    check_bytes();
    for (std::size_t at = 0; at < bytes_.size();) {
      const std::size_t slash = std::min(bytes_.find('\\', at), bytes_.size());
      out.append(bytes_, at, slash - at);
      at = slash < bytes_.size() ? escape(slash, out) : slash;
    }
  }
  bool has_escapes() const { return bytes_.find('\\') != std::string_view::npos; }

  void check_bytes() const {
    if (const auto bad = find_invalid_utf8(bytes_)) throw Malformed{not_utf8_problem(line_, offset_ + *bad)};
    const auto bare = std::find_if(bytes_.begin(), bytes_.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x20; });
    if (bare != bytes_.end())
      throw malformed("not JSON: a control character in the text that is not escaped",
                      offset_ + static_cast<std::size_t>(bare - bytes_.begin()));
  }

 private:
  // The escape at `at`; returns where it ends.
  std::size_t escape(std::size_t at, std::string& out) const {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char letter = bytes_[at + 1];  // a backslash is never the last byte before the closing quote
    if (letter == 'u') return unicode_escape(at, out);
    const std::size_t which = kLetters.find(letter);
    if (which == std::string_view::npos)
      throw malformed("not JSON: an unknown escape in the text", offset_ + at);
    out += kMeanings[which];
    return at + 2;
  }

  std::size_t unicode_escape(std::size_t at, std::string& out) const {
    const uint32_t first = four_digits(at);
    if (first < 0xD800 || first > 0xDFFF) {
      append_utf8(out, first);
      return at + 6;
    }
    const bool pair = first < 0xDC00 && bytes_.substr(at + 6, 2) == "\\u";
    const uint32_t second = pair ? four_digits(at + 6) : 0;
    if (second < 0xDC00 || second > 0xDFFF)
      throw malformed(
          str("the text holds half a surrogate pair, ", bytes_.substr(at, 6), ", which is no character"),
          offset_ + at);
    append_utf8(out, 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
    return at + 12;
  }

  uint32_t four_digits(std::size_t at) const {
    uint32_t value = 0;
    for (std::size_t i = at + 2; i < at + 6; ++i) {
      const int digit = i < bytes_.size() ? hex_digit(bytes_[i]) : -1;
      if (digit < 0) throw malformed("not JSON: \\u without four hex digits in the text", offset_ + at);
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }

  std::string_view line_, bytes_;
  std::size_t offset_;  // of bytes_ in the line
};

// The grammar, read from left to right; nothing is built.
class Scanner {
 public:
  explicit Scanner(std::string_view line) : line_(line) {}

  std::size_t at() const { return at_; }
  bool at_end() const { return at_ == line_.size(); }
  char next() const { return at_ < line_.size() ? line_[at_] : '\0'; }

  void skip_space() {
    while (at_ < line_.size() && std::string_view(" \t\r\n").find(line_[at_]) != std::string_view::npos)
      ++at_;
  }
  bool take(char c) {
    if (at_end() || line_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* what) {
    if (!take(c)) fail(what);
  }
  [[noreturn]] void fail(const std::string& what) const { throw malformed("not JSON: " + what, at_); }

  RawString string() {
    expect('"', "expected a string");
    const std::size_t begin = at_;
    std::size_t quote = line_.find('"', begin);
    while (quote != std::string_view::npos) {
      const std::size_t slash = line_.substr(at_, quote - at_).find('\\');
      if (slash == std::string_view::npos) {
        at_ = quote + 1;
        return {line_, begin, quote};
      }
      at_ += slash + 2;  // also over an escaped quote, which is then not the end
      if (at_ > quote) quote = line_.find('"', at_);
    }
    at_ = begin;
    fail("a string without its closing quote");
  }

  // Any value. The open brackets are a list of bits, so depth costs next to nothing.
  void skip_value() {
    std::vector<bool> objects;
    for (;;) {
      skip_space();
      if (open(objects)) continue;
      while (!objects.empty() && close(objects)) objects.pop_back();
      if (objects.empty()) return;
      skip_space();
      expect(',', objects.back() ? "expected , or }" : "expected , or ]");
      if (objects.back()) skip_key();
    }
  }

 private:
  void skip_key() {
    skip_space();
    string();
    skip_space();
    expect(':', "expected : behind a key");
  }

  // The value at hand: true when it is a bracket with something behind it that is still to be read.
  bool open(std::vector<bool>& objects) {
    const char first = next();
    if (first != '{' && first != '[') {
      scalar();
      return false;
    }
    if (objects.size() >= kMaxRecordDepth)
      throw malformed(str("nested deeper than ", kMaxRecordDepth, " levels"), at_);
    ++at_;
    skip_space();
    objects.push_back(first == '{');
    if (next() == (first == '{' ? '}' : ']')) return false;  // close() takes it
    if (first == '{') skip_key();
    return true;
  }

  bool close(const std::vector<bool>& objects) {
    skip_space();
    return take(objects.back() ? '}' : ']');
  }

  void scalar() {
    if (next() == '"') {
      string();
      return;
    }
    for (const std::string_view word : {"null", "true", "false"})
      if (take_word(word)) return;
    number();
  }

  bool take_word(std::string_view word) {
    if (!line_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  // Letters in any case: Python writes NaN and -Infinity, Perl nan and inf.
  bool take_word_in_any_case(std::string_view word) {
    const std::string_view found = line_.substr(at_, word.size());
    const auto same = [](char a, char b) { return (a | 0x20) == b; };
    if (!std::equal(found.begin(), found.end(), word.begin(), word.end(), same)) return false;
    at_ += word.size();
    return true;
  }

  bool digits() {
    const std::size_t begin = at_;
    while (is_digit(next())) ++at_;
    return at_ > begin;
  }

  void number() {
    const std::size_t begin = at_;
    take('-');
    for (const std::string_view word : {"nan", "infinity", "inf"})
      if (take_word_in_any_case(word)) return;
    bool good = take('0') || digits();
    if (good && take('.')) good = digits();
    if (good && (next() == 'e' || next() == 'E')) {
      ++at_;
      if (next() == '+' || next() == '-') ++at_;
      good = digits();
    }
    if (good) return;
    if (at_ == begin) fail(at_end() ? "a value is missing" : "expected a value");
    fail("not a number");
  }

  std::string_view line_;
  std::size_t at_ = 0;
};

std::string_view type_of(char first) {
  switch (first) {
    case '{':
      return "an object";
    case '[':
      return "an array";
    case '"':
      return "a string";
    case 'n':
      return "null";
    case 't':
    case 'f':
      return "a boolean";
    default:
      return "a number";
  }
}

// For a message: a few whole characters, none that a terminal would obey.
std::string shortened(std::string_view key) {
  std::size_t end = std::min(key.size(), kNamedKeyBytes);
  while (end > 0 && end < key.size() && (static_cast<unsigned char>(key[end]) & 0xC0) == 0x80) --end;
  std::string shown(key.substr(0, end));
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return end < key.size() ? shown + "..." : shown;
}

// What the members of the record are, as far as `key` and messages need them.
struct Members {
  std::optional<RawString> text;
  std::string_view type;  // of the value under the key
  int times = 0;
  std::string other_keys;
};

bool is_key(const RawString& name, std::string_view key) {
  if (!name.has_escapes()) return name.bytes() == key;
  std::string unescaped;
  try {
    name.unescape(unescaped);
  } catch (const Malformed&) {  // some other key
    return false;
  }
  return unescaped == key;
}

void read_members(Scanner& scanner, std::string_view key, Members& members) {
  std::size_t others = 0;
  scanner.expect('{', "expected an object");
  scanner.skip_space();
  if (scanner.take('}')) return;
  do {
    scanner.skip_space();
    const RawString name = scanner.string();
    scanner.skip_space();
    scanner.expect(':', "expected : behind a key");
    scanner.skip_space();
    if (!is_key(name, key)) {
      if (++others <= kNamedKeys) members.other_keys += (others > 1 ? ", " : "") + shortened(name.bytes());
      scanner.skip_value();
    } else {
      ++members.times;
      members.type = type_of(scanner.next());
      if (scanner.next() == '"')
        members.text = scanner.string();
      else
        scanner.skip_value();
    }
    scanner.skip_space();
  } while (scanner.take(','));
  scanner.expect('}', "expected , or }");
}

}  // namespace

JsonRecord::JsonRecord(std::string_view line, std::string_view key) {
  try {
    Scanner scanner(line);
    scanner.skip_space();
    Members members;
    members.type = type_of(scanner.next());
    const bool object = scanner.next() == '{';
    if (object)
      read_members(scanner, key, members);
    else
      scanner.skip_value();
    scanner.skip_space();
    if (!scanner.at_end()) scanner.fail("something stands behind the value");
    if (!object)
      problem_ =
          str("is ", members.type, "; expected an object with a string, like {\"", key, "\": \"...\"}");
    else if (members.times == 0)
      problem_ = str("has no key \"", key,
                     "\" (its keys: ", members.other_keys.empty() ? "none" : members.other_keys, ")");
    else if (members.times > 1)
      problem_ = str("has the key \"", key, "\" ", members.times, " times");
    else if (!members.text)
      problem_ = str("has ", members.type, " under \"", key, "\"; expected a string");
    if (!problem_.empty()) return;
    if (members.text->has_escapes()) {
      members.text->unescape(unescaped_);
      text_ = unescaped_;
    } else {
      members.text->check_bytes();
      text_ = members.text->bytes();
    }
  } catch (const Malformed& mistake) {
    problem_ = mistake.what;
  }
}

}  // namespace ithaca
