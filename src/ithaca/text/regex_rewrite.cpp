// Oniguruma's own syntax, as the `tokenizers` library uses it, to PCRE2. Sets of characters come from
// oniguruma_tables.cpp and case from case_folding.h, so that neither depends on PCRE2's release; the rest is
// spelling:
//   a{2,3}+  a{2}?   a repeat of a repeat, possessive or lazy in PCRE2
//   a{,3}            literal in PCRE2
//   (?m)             the dot matches newlines
//   a(?i)b|c         a(?i:b|c), not (?:a(?i)b|(?i)c)
//   (?<n>a)(b)       where one group has a name, the others do not capture
//   \x{..} \xHH      a character, and a byte of UTF-8
// A part that has no equal is refused by name: subexpression calls, conditions, absent expressions, callouts,
// \X, \y, levels of back references, options of Oniguruma's own. What either engine refuses, PCRE2's own
// limits included (a lookbehind of no fixed length), stays refused.
#include <cctype>
#include <optional>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/text/case_folding.h"
#include "ithaca/text/regex.h"
#include "ithaca/text/regex_reader.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxRewritten = std::size_t{1} << 20;
constexpr int kMaxFoldedClasses = 200;  // each asks after every cased character

struct Options {
  bool fold = false, dot_all = false, extended = false;
};

struct Group {
  std::size_t begin;  // where in the output it starts
  Options outside;    // to come back to
  int opened = 0;     // isolated options, each a group of its own
  bool is_assertion = false, is_lookbehind = false;
};

class Rewriter {
 public:
  Rewriter(std::string_view source, const std::string& where, bool has_names)
      : reader_(source, where), has_names_(has_names) {}

  std::string run() {
    while (!reader_.at_end()) {
      item();
      if (out_.size() > kMaxRewritten) reader_.refuse("so many classes that it grows above 1 MiB");
    }
    flush();
    out_.append(static_cast<std::size_t>(opened_), ')');
    return std::move(out_);
  }
  bool saw_names() const { return saw_names_; }

 private:
  void item() {
    const char c = reader_.peek();
    if (options_.extended && (std::isspace(static_cast<unsigned char>(c)) || c == '#')) return skip_blank(c);
    if (c == '*' || c == '+' || c == '?') return quantifier();
    if (c == '{' && interval()) return;
    if (c == '\\') return escape();
    if (c == '[') return bracket();
    if (c == '(') return open_group();
    if (c == ')') return close_group();
    if (c == '|' || c == '^' || c == '$' || c == '.') return special(c);
    literal(reader_.next());
  }

  void skip_blank(char c) {
    if (c != '#') return reader_.skip(1);
    while (!reader_.at_end() && reader_.peek() != '\n') reader_.skip(1);
  }

  // Literal characters wait under (?i), because several may stand for one.
  void literal(char32_t c) {
    if (options_.fold) {
      run_ += c;
      return;
    }
    atom(pcre2_character(c));
  }

  void flush() {
    if (run_.empty()) return;
    const std::u32string run = std::move(run_);
    run_.clear();
    atom_ = out_.size();
    quantifiable_ = true;
    out_ += folding().literal(run, !in_lookbehind());
  }

  // A quantifier repeats the last character alone.
  void flush_before_quantifier() {
    if (run_.empty()) return;
    const char32_t last = run_.back();
    run_.pop_back();
    flush();
    run_ = last;
    flush();
  }

  void atom(const std::string& text) {
    flush();
    atom_ = out_.size();
    quantifiable_ = true;
    out_ += text;
  }

  void assertion(const std::string& text) {
    flush();
    out_ += text;
    quantifiable_ = false;
  }

  const CaseFolding& folding() {
    if (!folding_) folding_.emplace();
    return *folding_;
  }
  bool in_lookbehind() const {
    for (const Group& group : groups_)
      if (group.is_lookbehind) return true;
    return false;
  }

  void special(char c) {
    reader_.skip(1);
    if (c == '.') return atom(options_.dot_all ? "(?s:.)" : "[^\\n]");
    assertion(std::string(1, c));
  }

  void bracket() {
    BracketClass found = read_bracket(reader_);
    if (options_.fold) {
      if (++folded_classes_ > kMaxFoldedClasses) reader_.refuse("more than 200 classes under (?i)");
      return atom(folding().bracket(std::move(found.set), found.negated, !in_lookbehind()));
    }
    if (found.negated) found.set.negate();
    atom(found.set.pattern());
  }

  void escape() {
    if (const auto set = reader_.escaped_set(false)) return atom(set->pattern());
    const char letter = reader_.peek(1);
    switch (letter) {
      case 'A':
      case 'Z':
      case 'z':
      case 'G':
      case 'K':
        reader_.skip(2);
        return assertion({'\\', letter});
      case 'R':
        reader_.skip(2);
        return atom("\\R");
      case 'N':
        reader_.skip(2);
        return atom("[^\\n]");
      case 'O':
        reader_.skip(2);
        return atom("(?s:.)");
      case 'b':
      case 'B':
        reader_.skip(2);
        return word_boundary(letter == 'b');
      case 'k':
        return named_reference();
      case 'g':
        if (reader_.peek(2) == '<' || reader_.peek(2) == '\'') reader_.refuse("a subexpression call (\\g)");
        break;
      case 'X':
      case 'y':
      case 'Y':
        reader_.refuse(str("\\", letter));
      default:
        break;
    }
    if (letter >= '1' && letter <= '9' && numbered_reference()) return;
    literal(reader_.escaped_character(false));
  }

  void word_boundary(bool boundary) {
    const std::string word = CharacterSet::named("\\w")->pattern();
    assertion(boundary ? "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))"
                       : "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
  }

  void reference(const std::string& text) {
    if (options_.fold) reader_.refuse("a back reference under (?i)");
    atom(text);
  }

  void named_reference() {
    const char open = reader_.peek(2);
    if (open != '<' && open != '\'') return literal(reader_.escaped_character(false));
    reader_.skip(3);
    const std::string name = reader_.until(open == '<' ? ">" : "'");
    const bool is_number = name.find_first_not_of("-0123456789") == std::string::npos;
    if (name.empty() || (!is_number && name.find_first_of("+-") != std::string::npos))
      reader_.refuse("a back reference with a level, or without a name");
    if (is_number && has_names_) reader_.refuse("a back reference by number beside groups with names");
    reference((is_number ? "\\g{" : "\\k{") + name + "}");
  }

  // \1 to \9, and a longer number if there are as many groups; else it is octal.
  bool numbered_reference() {
    std::string digits;
    while (digits.size() < 4 && std::isdigit(static_cast<unsigned char>(reader_.peek(1 + digits.size()))))
      digits += reader_.peek(1 + digits.size());
    const int number = std::stoi(digits);
    if (number > 9 && number > captures_ && digits[0] < '8') return false;
    if (has_names_) reader_.refuse("a back reference by number beside groups with names");
    reader_.skip(1 + digits.size());
    reference("\\g{" + digits + "}");
    return true;
  }

  void open_group() {
    flush();
    reader_.skip(1);
    if (reader_.peek() == '*') reader_.refuse("a callout, (*");
    if (!reader_.accept("?")) {
      ++captures_;
      return push(has_names_ ? "(?:" : "(");
    }
    if (reader_.accept("#")) return comment();
    for (const char* plain : {":", ">"})
      if (reader_.accept(plain)) return push(str("(?", plain));
    for (const char* look : {"=", "!", "<=", "<!"}) {
      if (!reader_.accept(look)) continue;
      push(str("(?", look));
      groups_.back().is_assertion = true;
      groups_.back().is_lookbehind = look[0] == '<';
      return;
    }
    if (reader_.peek() == '<' || reader_.peek() == '\'') return named_group();
    option_group();
  }

  void push(const std::string& text) {
    groups_.push_back({out_.size(), options_, opened_});
    opened_ = 0;
    out_ += text;
    quantifiable_ = false;
  }

  void comment() {
    for (; !reader_.at_end() && reader_.peek() != ')'; reader_.skip(1))
      if (reader_.peek() == '\\') reader_.skip(1);
    if (!reader_.accept(")")) reader_.refuse("an unclosed comment");
  }

  void named_group() {
    const bool angle = reader_.peek() == '<';
    reader_.skip(1);
    const std::string name = reader_.until(angle ? ">" : "'");
    saw_names_ = true;
    ++captures_;
    push("(?<" + name + ">");
  }

  // (?i) (?m) (?x) and their negations, up to the group's end or for (?i:a group of their own).
  void option_group() {
    Options options = options_;
    bool on = true;
    for (char c = reader_.peek(); c != ')' && c != ':'; c = reader_.peek()) {
      if (c == '-')
        on = false;
      else if (c == 'i')
        options.fold = on;
      else if (c == 'm')
        options.dot_all = on;
      else if (c == 'x')
        options.extended = on;
      else
        reader_.refuse(str("(?", c == '\0' ? ' ' : c));
      reader_.skip(1);
    }
    const bool own_group = reader_.peek() == ':';
    reader_.skip(1);
    if (own_group) {
      push("(?:");
    } else {
      out_ += "(?:";
      ++opened_;
      quantifiable_ = false;
    }
    options_ = options;
  }

  void close_group() {
    flush();
    if (groups_.empty()) reader_.refuse("a ) without its (");
    reader_.skip(1);
    const Group group = groups_.back();
    groups_.pop_back();
    out_.append(static_cast<std::size_t>(opened_) + 1, ')');
    opened_ = group.opened;
    options_ = group.outside;
    atom_ = group.begin;
    quantifiable_ = !group.is_assertion;
  }

  void check_quantifiable() {
    flush_before_quantifier();
    if (!quantifiable_) reader_.refuse("a repeat of nothing, or of an anchor or a lookaround");
  }

  // The atom so far, made one that another repeat may follow.
  void close_repeat() {
    if (!repeated_at_ || *repeated_at_ != out_.size()) return;
    out_.insert(atom_, "(?:");
    out_ += ")";
  }

  void quantifier() {
    check_quantifiable();
    close_repeat();
    out_ += reader_.peek();
    reader_.skip(1);
    if (reader_.peek() == '?' || reader_.peek() == '+') {
      out_ += reader_.peek();
      reader_.skip(1);
    }
    repeated_at_ = out_.size();
  }

  bool interval() {
    const auto found = reader_.interval();
    if (!found) return false;
    check_quantifiable();
    close_repeat();
    out_ += found->text;
    if (!found->is_exact && reader_.accept("?")) out_ += "?";
    repeated_at_ = out_.size();
    return true;
  }

  RegexReader reader_;
  std::optional<CaseFolding> folding_;
  std::string out_;
  std::u32string run_;  // literal characters under (?i) that are not written yet
  Options options_;
  std::vector<Group> groups_;
  int opened_ = 0;  // groups in the output that isolated options of this level opened
  int captures_ = 0, folded_classes_ = 0;
  std::size_t atom_ = 0;  // where in out_ the last atom, which a quantifier would repeat, begins
  std::optional<std::size_t> repeated_at_;  // out_.size() behind the last quantifier
  bool quantifiable_ = false, has_names_, saw_names_ = false;
};

}  // namespace

std::string rewrite_for_pcre2(std::string_view oniguruma, const std::string& where) {
  const std::string valid = to_valid_utf8(oniguruma);
  Rewriter first(valid, where, false);
  std::string text = first.run();
  return first.saw_names() ? Rewriter(valid, where, true).run() : text;
}

}  // namespace ithaca
