// What a template may spend. Templates come with models, from strangers: every loop, copy and comparison is
// paid for, so that time, memory and output are bounded whatever the template does.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace ithaca::jinja {

// A template cannot be read or run; the message names the cause, whoever catches it adds the place.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Limits {
  std::int64_t steps = 50'000'000;                 // of evaluation; a copied byte is a sixteenth of one
  std::size_t text_bytes = std::size_t{64} << 20;  // of the output, and of any one string
  int depth = 1000;                                // of evaluation: nested expressions, statements, macros
};

// Of a template's source: nested statements and expressions. Far above what templates in use have.
inline constexpr int kMaxSourceDepth = 250;
// Of values: lists in lists.
inline constexpr int kMaxValueDepth = 200;

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_left_(limits.steps) {}

  void step() {
    if (--steps_left_ < 0) out_of_steps();
  }
  void steps(std::size_t count) {
    if (count >= static_cast<std::size_t>(steps_left_)) out_of_steps();
    steps_left_ -= static_cast<std::int64_t>(count);
  }
  // Before `bytes` of text are made, or read through.
  void text(std::size_t bytes) {
    fits(bytes);
    steps(bytes / 16);
  }
  // Before `text` bytes are searched for `part` bytes: the library's search may look at each byte often.
  void search(std::size_t text, std::size_t part) {
    steps((text / 16) * (1 + (part < text ? part : 0) / 32));
  }
  void fits(std::size_t bytes) const {
    if (bytes > limits_.text_bytes) text_too_long();
  }
  // Before a list of `count` values is made.
  void values(std::size_t count) { steps(count + 1); }

  void enter() {
    if (depth_ >= limits_.depth) too_deep();
    ++depth_;
  }
  void leave() { --depth_; }
  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] void out_of_steps() const;
  [[noreturn]] void text_too_long() const;
  [[noreturn]] void too_deep() const;

  Limits limits_;
  std::int64_t steps_left_;
  int depth_ = 0;
};

class DepthGuard {
 public:
  explicit DepthGuard(Budget& budget) : budget_(budget) { budget_.enter(); }
  ~DepthGuard() { budget_.leave(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Budget& budget_;
};

}  // namespace ithaca::jinja
