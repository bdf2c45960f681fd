#include "ithaca/data/document_reader.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

// Length of the well-formed sequence at the start of `s`, 0 if there is none.
std::size_t utf8_sequence(std::string_view s) {
  const auto byte = [&](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto is_tail = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return is_tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {  // no overlong form (E0), no surrogate (ED)
    return is_tail(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) && is_tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {  // no overlong form (F0), nothing above U+10FFFF (F4)
    return is_tail(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) && is_tail(2) && is_tail(3) ? 4
                                                                                                          : 0;
  }
  return 0;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// Takes the string `text` out of one JSON object without building a tree: rows can hold a million tokens.
class TextField : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary"); }
  bool string(string_t& text) override {
    if (at_text()) text_ = std::move(text);
    return value("a string");
  }
  bool start_object(std::size_t) override { return open("an object"); }
  bool start_array(std::size_t) override { return open("an array"); }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    is_text_ = name == "text";
    if (is_text_ && ++times_ > 1) return false;
    if (keys_.size() < 8) keys_.push_back(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    syntax_error_at_ = position;
    return false;
  }

  // What is wrong with the line; empty when `text` holds its text.
  std::string problem() const {
    if (syntax_error_at_) return str("not JSON in UTF-8 (at byte ", *syntax_error_at_, " of the line)");
    if (root_ != "an object")
      return str("is ", root_, "; expected an object with a string, like {\"text\": \"...\"}");
    if (times_ > 1) return "has the key \"text\" twice";
    if (times_ == 0) {
      std::string names;
      for (const std::string& key : keys_) names += (names.empty() ? "" : ", ") + key;
      return str("has no key \"text\" (its keys: ", names.empty() ? "none" : names, ")");
    }
    if (text_type_ != "a string") return str("has ", text_type_, " under \"text\"; expected a string");
    return "";
  }
  const std::string& text() const { return text_; }

 private:
  bool at_text() const { return depth_ == 1 && is_text_; }
  bool value(const char* type) {
    if (depth_ == 0) root_ = type;
    if (at_text()) text_type_ = type;
    return true;
  }
  bool open(const char* type) {
    value(type);
    ++depth_;
    return true;
  }

  std::string text_, root_, text_type_;
  std::vector<std::string> keys_;
  std::optional<std::size_t> syntax_error_at_;
  int times_ = 0;
  int64_t depth_ = 0;
  bool is_text_ = false;
};

std::string hex_byte(char c) {
  std::ostringstream out;
  out << "0x" << std::uppercase << std::hex << std::setw(2) << std::setfill('0')
      << int{static_cast<unsigned char>(c)};
  return out.str();
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size() &&
        (std::memcpy(&eight, text.data() + at, 8), (eight & 0x8080808080808080u) == 0)) {
      at += 8;
      continue;
    }
    const std::size_t length = utf8_sequence(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

DocumentReader::DocumentReader(const fs::path& file) : file_(file) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  std::error_code error;
  if (!fs::exists(file, error))
    throw UserError(str(file.string(), ": no such file; expected a .txt or .jsonl"));
  if (fs::is_directory(file, error))
    throw UserError(str(file.string(), ": is a folder; expected a .txt or .jsonl file"));
  if (ending != ".txt" && ending != ".jsonl")
    throw UserError(
        str(file.string(), ": unknown file ending \"", ending,
            "\"; expected .txt (one document) or .jsonl (a document a line, under the key \"text\")"));
  jsonl_ = ending == ".jsonl";
  map_ = MappedFile::open(file);
  const auto bytes = map_->bytes();
  rest_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  if (rest_.empty()) throw UserError(str(file.string(), ": is empty; expected some text"));
}

std::vector<DocumentReader::Source> DocumentReader::next(std::size_t max_documents, std::size_t max_bytes) {
  std::vector<Source> found;
  if (!jsonl_) {
    if (!rest_.empty()) found.push_back({rest_, 0});
    rest_ = {};
    return found;
  }
  std::size_t bytes = 0;
  while (!rest_.empty() && found.size() < max_documents && bytes < max_bytes) {
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    rest_.remove_prefix(std::min(rest_.size(), line.size() + 1));
    ++line_;
    if (is_blank(line)) continue;
    found.push_back({line, line_});
    bytes += line.size();
  }
  return found;
}

void DocumentReader::read(const Source& source, const std::function<void(std::string_view)>& use) const {
  if (source.line == 0) {
    if (const auto bad = find_invalid_utf8(source.bytes))
      throw UserError(str(file_.string(), ": not UTF-8 at byte ", *bad, " (", hex_byte(source.bytes[*bad]),
                          "); convert it first, for instance with iconv -f LATIN1 -t UTF-8"));
    return use(source.bytes);
  }
  TextField field;
  nlohmann::json::sax_parse(source.bytes.begin(), source.bytes.end(), &field);
  const std::string problem = field.problem();
  if (!problem.empty()) throw UserError(str(file_.string(), " line ", source.line, ": ", problem));
  use(field.text());
}

std::string DocumentReader::content_hash() const {
  Sha256 hash;
  hash.update(map_->bytes());
  return hash.hex();
}

}  // namespace ithaca
