// The values of a template: what Python's None, bool, int, float, str, list, tuple and dict are to Jinja.
// Lists, tuples and dicts do not change once they are made (the sandbox of transformers forbids it too), so a
// value is shared, not copied, and cannot hold itself.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ithaca::jinja {

enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,    // 64 bits; more is refused
  kFloat,  // 64 bits
  kString,
  kMarkup,  // text that a filter marked as safe
  kList,
  kTuple,
  kDict,
  kRange,
  kView,      // keys(), values() or items() of a dict
  kIterator,  // what map, select and the like give: once through
  kNamespace,
  kMacro,
  kMethod,    // of a string, list, tuple, dict or loop
  kFunction,  // range, dict, ...
  kLoop
};

// What is on the heap. `depth`: how many levels of values it holds, itself included.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  int depth = 1;
};

class Value;
using Values = std::vector<Value>;

class Value {
 public:
  Value() = default;  // undefined, without a name
  static Value undefined(std::string message);
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value real(double value);
  static Value string(std::string text);  // UTF-8
  static Value markup(std::string text);
  static Value list(Values items);  // Failure beyond kMaxValueDepth levels, as all that hold values
  static Value tuple(Values items);
  // Of two equal keys the first gives the place, the last the value.
  static Value dict(std::vector<std::pair<Value, Value>> entries);
  static Value object(Kind kind, std::shared_ptr<Object> object);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_text() const { return kind_ == Kind::kString || kind_ == Kind::kMarkup; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }

  std::int64_t as_integer() const { return integer_; }  // of an int or a bool
  double as_real() const;                               // of a number
  const std::string& text() const;                      // of a string
  const Values& items() const;                          // of a list or tuple
  int depth() const { return object_ ? object_->depth : 1; }

  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  const std::shared_ptr<Object>& shared() const { return object_; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kUndefined;
  union {
    std::int64_t integer_ = 0;
    double real_;
  };
  std::shared_ptr<Object> object_;
};

struct TextObject : Object {
  std::string text;  // of an undefined value: why it is undefined
};

struct ListObject : Object {
  Values items;
};

// Numbers by value (1, 1.0 and true are one key, as in Python), then strings, then flat tuples of these.
struct KeyLess {
  using is_transparent = void;
  bool operator()(const Value& a, const Value& b) const;
  bool operator()(const Value& a, std::string_view b) const;
  bool operator()(std::string_view a, const Value& b) const;
};

// In order of insertion.
class Dict : public Object {
 public:
  using Entry = std::pair<Value, Value>;
  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);  // Failure if the key may not be one

 private:
  std::size_t position(const Value& key) const;
  std::size_t position(std::string_view key) const;

  std::vector<Entry> entries_;
  std::map<Value, std::size_t, KeyLess> index_;  // filled once there are more than a few
};

struct Range : Object {
  std::int64_t start = 0, stop = 0, step = 1, size = 0;
  // index * step alone may be beyond 64 bits.
  std::int64_t at(std::int64_t index) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(start) +
                                     static_cast<std::uint64_t>(index) * static_cast<std::uint64_t>(step));
  }
};

enum class ViewPart : std::uint8_t { kKeys, kValues, kItems };
struct View : Object {
  Value dict;
  ViewPart part = ViewPart::kKeys;
};

struct Iterator : Object {
  virtual bool next(Value& value) = 0;  // false at the end, and ever after
  const char* type_name = "generator";
};

// -1, 0 or 1; nothing where one is NaN.
std::optional<int> compare_numbers(const Value& a, const Value& b);
// May a value be the key of a dict? Failure, naming its type, if not.
void require_hashable(const Value& value);
// Python's name of its type.
const char* type_name(const Value& value);
// Sets `depth` of an object from a value that it holds; Failure beyond kMaxValueDepth.
void hold(Object& object, const Value& held);

}  // namespace ithaca::jinja
