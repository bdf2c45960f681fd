// One rendering: what the nodes of a template share while they are evaluated.
#pragma once
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

// What `raise_exception` was given.
struct Raised : Failure {
  using Failure::Failure;
};

// The one value that changes: a template's `namespace(...)`.
struct Namespace : Object {
  Dict attributes;
};

struct Span {
  std::size_t begin, end;  // bytes
};

using Context = std::unordered_map<std::string, Value>;

struct Run {
  Run(const Limits& limits, const Context& variables, const std::tm& time)
      : budget(limits), context(variables), now(time) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void write(std::string_view text) {
    budget.text(text.size());
    budget.fits(out->size() + text.size());
    *out += text;
  }

  Budget budget;
  const Context& context;
  std::tm now;
  std::string result;
  std::string* out = &result;                          // where output goes now
  std::vector<Span> generation;                        // of {% generation %}, as they end
  std::vector<std::unique_ptr<Namespace>> namespaces;  // owned here: they may hold one another
  int line = 0;                                        // of what is being evaluated
};

// Sends output to a string of its own for as long as it lives.
class Capture {
 public:
  explicit Capture(Run& run) : run_(run), before_(run.out) { run.out = &text_; }
  ~Capture() { run_.out = before_; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  std::string take() { return std::move(text_); }

 private:
  Run& run_;
  std::string* before_;
  std::string text_;
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Each argument at its parameter's place; one that was not given is an undefined value without a text (see
// `given`). Failure names `what` was called wrongly.
Values bind_arguments(std::string_view what, const Arguments& arguments,
                      std::initializer_list<std::string_view> parameters, std::size_t required = 0);
inline bool given(const Value& argument) {
  return !argument.is(Kind::kUndefined) || argument.shared();
}
std::int64_t integer_argument(std::string_view what, const Value& argument, std::int64_t fallback);
// The text of a string; Failure otherwise.
const std::string& text_argument(std::string_view what, const Value& argument);

}  // namespace ithaca::jinja
