#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "ithaca/base/json.h"
#include "ithaca/base/text_encoding.h"
#include "ithaca/config/settings_source.h"
#include "ithaca/config/settings_table.h"

namespace ithaca {
namespace {

std::string shortened(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

WrittenSetting written(const std::string& key, const std::string& value, const std::string& where) {
  return {key, value, where, shortened(str(where, ": ", key, ": ", value)), true};
}

// Ends the reading; the problem is listed already.
struct SecondDocument {};

// Expects one flat mapping, in which a group of settings (sparse_attention) may be a mapping of its own; every
// second scalar at the depth of settings is a key.
class FlatMapping : public YAML::EventHandler {
 public:
  FlatMapping(const std::string& name, Problems& problems) : name_(name), problems_(problems) {}
  std::vector<WrittenSetting> settings;

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 1) return;
    problems_.add(str(where(mark),
                      ": a second YAML document begins here (---, or a line behind ...); the settings of "
                      "a run are one document: put others into files of their own"));
    throw SecondDocument();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (depth_ == 0) return;  // an empty document
    scalar(mark, anchor, std::nullopt);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // the tag "!" says that the scalar was quoted
    const bool null = tag != "!" && (value == "null" || value == "Null" || value == "NULL" || value == "~");
    scalar(mark, anchor, null ? std::nullopt : std::optional(value));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not accepted; write the value out");
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open_nested(mark, "a list");
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    if (anchor != 0) refuse(mark, "anchors (&name) are not accepted; write the value out");
    if (depth_ == 0)
      ++depth_;
    else if (depth_ == 1 && key_ && is_setting_group(*key_))
      open_group();
    else
      open_nested(mark, "a mapping");
  }
  void OnMapEnd() override {
    --depth_;
    if (depth_ == 1) group_.clear();
  }

 private:
  std::string where(const YAML::Mark& mark) const { return str(name_, ":", mark.line + 1); }
  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& why) const {
    throw UserError(str(where(mark), ": ", why));
  }

  int settings_depth() const { return group_.empty() ? 1 : 2; }

  void open_group() {
    group_ = *key_ + ".";
    key_.reset();
    ++depth_;
  }

  void open_nested(const YAML::Mark& mark, const char* what) {
    if (depth_ == 0) refuse(mark, str("expected settings as `name: value` lines, not ", what));
    if (depth_ == settings_depth()) {
      if (!key_) refuse(mark, str(what, " cannot be the name of a setting"));
      problems_.add(
          str(where(mark), ": ", shortened(*key_), " is ", what, "; expected one value (settings are flat)"));
      key_.reset();
    }
    ++depth_;
  }

  void scalar(const YAML::Mark& mark, YAML::anchor_t anchor, std::optional<std::string> value) {
    if (anchor != 0) refuse(mark, "anchors (&name) are not accepted; write the value out");
    if (depth_ == 0) refuse(mark, "expected settings as `name: value` lines");
    if (depth_ > settings_depth()) return;  // inside a value that was refused already
    if (!key_) {
      key_ = group_ + value.value_or("null");
      key_line_ = where(mark);
      return;
    }
    if (!seen_.insert(*key_).second)
      problems_.add(str(key_line_, ": ", shortened(*key_), " is given twice in this file"));
    if (value) settings.push_back(written(*key_, *value, key_line_));
    key_.reset();
  }

  const std::string& name_;
  Problems& problems_;
  int documents_ = 0;
  int depth_ = 0;
  std::string group_;  // "sparse_attention." inside that mapping
  std::optional<std::string> key_;
  std::string key_line_;
  std::set<std::string> seen_;
};

std::size_t line_of(std::string_view text, std::size_t offset) {
  return 1 + static_cast<std::size_t>(
                 std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

// Characters that YAML does not allow; the parser takes one of them (04) for the end of the file.
bool is_forbidden(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
}

// The parser would put U+FFFD for bytes that are no UTF-8, and a path would be another one.
void check_characters(std::string_view text, const std::string& name) {
  const std::string wide = wide_encoding_problem(text);
  if (!wide.empty()) throw UserError(str(name, ": ", wide));
  if (const auto bad = find_invalid_utf8(text))
    throw UserError(str(name, ":", line_of(text, *bad), ": ", not_utf8_problem(text, *bad)));
  const auto forbidden = std::find_if(text.begin(), text.end(), is_forbidden);
  if (forbidden != text.end())
    throw UserError(str(name, ":", line_of(text, static_cast<std::size_t>(forbidden - text.begin())),
                        ": not valid YAML: the control character ",
                        int{static_cast<unsigned char>(*forbidden)}));
}

// The line of a top-level key of valid JSON. A string value cannot imitate it: its quotes would be escaped.
std::size_t line_of_key(std::string_view text, const std::string& key) {
  const std::string quoted = Json(key).dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = text.find(quoted); at != std::string_view::npos; at = text.find(quoted, at + 1)) {
    const std::size_t after = text.find_first_not_of(" \t\r\n", at + quoted.size());
    if (after != std::string_view::npos && text[after] == ':') return line_of(text, at);
  }
  return 1;
}

}  // namespace

std::vector<WrittenSetting> read_yaml_settings(std::string_view text, const std::string& name,
                                               Problems& problems) {
  check_characters(text, name);
  std::istringstream stream{std::string(without_byte_order_mark(text))};
  FlatMapping handler(name, problems);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(handler)) {
    }
  } catch (const SecondDocument&) {  // what the first one says is kept, so that no setting counts as missing
  } catch (const YAML::Exception& error) {
    throw UserError(str(name, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
  return std::move(handler.settings);
}

std::vector<WrittenSetting> read_json_settings(std::string_view text, const std::string& name,
                                               Problems& problems) {
  const Json json = parse_json(text, name);
  if (!json.is_object())
    throw UserError(str(name, ": expected one object of settings, {\"name\": value, ...}"));
  std::vector<WrittenSetting> settings;
  std::size_t looked_up = 0;
  const auto read_members = [&](const auto& self, const Json& object, const std::string& group) -> void {
    for (const auto& [key, value] : object.items()) {
      if (value.is_null()) continue;
      // finding a line costs a scan of the file; a file with more keys than this is not a person's
      const std::string where = ++looked_up <= 256 ? str(name, ":", line_of_key(text, key)) : name;
      if (group.empty() && value.is_object() && is_setting_group(key))
        self(self, value, key + ".");
      else if (value.is_structured())
        problems.add(str(where, ": ", shortened(group + key), " is ",
                         value.is_array() ? "a list" : "an object",
                         "; expected one value (settings are flat)"));
      else
        settings.push_back(written(
            group + key, value.is_string() ? value.template get<std::string>() : value.dump(), where));
    }
  };
  read_members(read_members, json, "");
  return settings;
}

}  // namespace ithaca
