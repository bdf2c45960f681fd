#include "ithaca/text/jinja/json_value.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"
#include "ithaca/text/jinja/budget.h"

namespace ithaca::jinja {
namespace {

class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& source) : source_(source) {}
  Value take() { return std::move(result_); }

  bool null() override { return add(Value::none()); }
  bool boolean(bool value) override { return add(Value::boolean(value)); }
  bool number_integer(number_integer_t value) override { return add(Value::integer(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) refuse_integer(std::to_string(value));
    return add(Value::integer(static_cast<std::int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) refuse_integer(text);
    return add(Value::real(value));
  }
  bool string(string_t& value) override { return add(Value::string(std::move(value))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool key(string_t& value) override {
    open_.back().key = Value::string(std::move(value));
    return true;
  }
  bool end_object() override {
    Value value = Value::dict(std::move(open_.back().entries));
    open_.pop_back();
    return add(std::move(value));
  }
  bool end_array() override {
    Value value = Value::list(std::move(open_.back().items));
    open_.pop_back();
    return add(std::move(value));
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    throw UserError(str(source_, ": not valid JSON: ", error.what()));
  }

 private:
  struct Open {
    bool is_object = false;
    Value key;
    Values items;
    std::vector<Dict::Entry> entries;
  };

  bool open(bool is_object) {
    if (open_.size() + 1 >= static_cast<std::size_t>(kMaxValueDepth))
      throw UserError(str(source_, ": nested deeper than ", kMaxValueDepth, " levels"));
    open_.emplace_back();
    open_.back().is_object = is_object;
    return true;
  }

  bool add(Value value) {
    if (open_.empty())
      result_ = std::move(value);
    else if (open_.back().is_object)
      open_.back().entries.emplace_back(std::move(open_.back().key), std::move(value));
    else
      open_.back().items.push_back(std::move(value));
    return true;
  }

  [[noreturn]] void refuse_integer(const std::string& text) const {
    throw UserError(str(source_, ": the integer ", text.substr(0, 40), " needs more than 64 bits"));
  }

  const std::string& source_;
  std::vector<Open> open_;
  Value result_;
};

}  // namespace

Value value_from_json(std::string_view text, const std::string& source) {
  Builder builder(source);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace ithaca::jinja
