// Regular expressions of tokenizer.json. They are written for Oniguruma (Ruby syntax) and run here on PCRE2:
// regex_rewrite.cpp turns the one into the other. Patterns of strangers cannot hang the program: length,
// nesting and steps of a match are bounded.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

struct Span {
  std::size_t begin;
  std::size_t end;
  bool operator==(const Span&) const = default;
};

// The same expression for PCRE2 (UTF, UCP, multiline, newline is \n). UserError, which names `where`, for
// syntax that has no equal there.
std::string rewrite_for_pcre2(std::string_view oniguruma, const std::string& where);

// What encoding or decoding needs: room for matches, the JIT's stack, and the size that a text may grow to
// under a stranger's rules (a list of thirty Replace rules could double it each time). Of one thread at a time.
class RegexScratch {
 public:
  explicit RegexScratch(std::size_t max_text_bytes);
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;
  void set_limit(std::size_t max_text_bytes) { max_text_bytes_ = max_text_bytes; }
  void check_growth(std::size_t text_bytes) const;  // UserError above the limit
  // Called now and then in the work on a long text; what it throws ends the work. Null: nothing is called.
  void set_poll(const std::function<void()>* poll) { poll_ = poll; }
  // A small piece of the work is done: a match, a word. They are counted over all parts of a text.
  void tick() {
    if (++ticks_ % kTicksAPoll == 0 && poll_ && *poll_) (*poll_)();
  }

 private:
  friend class Regex;
  static constexpr std::size_t kTicksAPoll = 4096;
  const std::function<void()>* poll_ = nullptr;
  std::size_t ticks_ = 0;
  struct State;
  std::unique_ptr<State> state_;
  std::size_t max_text_bytes_;
};

class Regex {
 public:
  // UserError, which names `where`, if the pattern is malformed or above the limits.
  Regex(const std::string& oniguruma, std::string where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Appends the matches in `text` (valid UTF-8) from left to right. UserError if the pattern needs too many
  // steps.
  void find_all(std::string_view text, RegexScratch& scratch, std::vector<Span>& matches) const;

 private:
  struct Compiled;
  int match_at(std::string_view text, std::size_t start, RegexScratch& scratch) const;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace ithaca
