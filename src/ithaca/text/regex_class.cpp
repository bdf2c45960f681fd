// Bracket classes: unions, ranges, nested and POSIX classes, intersections.
#include "ithaca/text/regex_reader.h"

namespace ithaca {
namespace {

constexpr int kMaxNesting = 50;

class ClassReader {
 public:
  explicit ClassReader(RegexReader& reader) : reader_(reader) {}

  BracketClass read(int depth) {
    if (depth > kMaxNesting) reader_.refuse("classes nested deeper than 50");
    BracketClass found;
    reader_.accept("[");
    found.negated = reader_.accept("^");
    std::optional<CharacterSet> left;  // of an &&
    CharacterSet right;
    bool first = true;
    while (!reader_.accept("]") || (first && add_bracket(right))) {
      first = false;
      if (reader_.at_end()) reader_.refuse("an unclosed class");
      if (reader_.accept("&&")) {
        left = left ? left->intersected(right) : right;
        right = CharacterSet();
      } else {
        read_element(right, depth);
      }
    }
    found.set = left ? left->intersected(right) : right;
    return found;
  }

 private:
  // A "]" that comes first is a character.
  bool add_bracket(CharacterSet& set) {
    set.add(']', ']');
    return true;
  }

  void read_element(CharacterSet& set, int depth) {
    if (reader_.starts_with("[:")) {
      add_posix(set);
    } else if (reader_.peek() == '[') {
      BracketClass inner = ClassReader(reader_).read(depth + 1);
      if (inner.negated) inner.set.negate();
      set.add(inner.set);
    } else if (const auto escaped = reader_.peek() == '\\' ? reader_.escaped_set(true) : std::nullopt) {
      set.add(*escaped);
      refuse_range();
    } else {
      read_range(set);
    }
  }

  char32_t read_character() {
    return reader_.peek() == '\\' ? reader_.escaped_character(true) : reader_.next();
  }

  void read_range(CharacterSet& set) {
    const char32_t first = read_character();
    const bool is_range = reader_.peek() == '-' && reader_.peek(1) != ']' && !reader_.starts_with("-&&");
    if (!is_range) return set.add(first, first);
    reader_.skip(1);
    if (reader_.at_end() || reader_.peek() == '[') reader_.refuse("a range that ends with a class");
    if (reader_.peek() == '\\' && reader_.escaped_set(true)) reader_.refuse("a range that ends with a class");
    const char32_t last = read_character();
    if (last < first) reader_.refuse("a range whose last character comes before its first");
    set.add(first, last);
  }

  void add_posix(CharacterSet& set) {
    reader_.skip(2);
    const bool negated = reader_.accept("^");
    const std::string name = reader_.until(":]");
    auto known = CharacterSet::named("[:" + name + ":]");
    if (!known) reader_.refuse("the POSIX class \"" + name + "\"");
    if (negated) known->negate();
    set.add(*known);
    refuse_range();
  }

  void refuse_range() {
    if (reader_.peek() == '-' && reader_.peek(1) != ']') reader_.refuse("a range that starts with a class");
  }

  RegexReader& reader_;
};

}  // namespace

BracketClass read_bracket(RegexReader& reader) {
  return ClassReader(reader).read(0);
}

}  // namespace ithaca
