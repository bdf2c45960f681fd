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
  std::int64_t steps = 50'000'000;  // nodes evaluated and elements looked at; 16 bytes of text are one
  std::size_t text_bytes = std::size_t{16} << 20;    // of the output, and of any one string
  std::size_t total_bytes = std::size_t{512} << 20;  // of all texts and values that are made on the way
  int depth = 1000;                                  // of evaluation: nested expressions, statements, macros
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
    made(bytes);
  }
  // Before `text` bytes are searched for `part` bytes: the library's search may look at each byte often.
  void search(std::size_t text, std::size_t part) {
    steps((text / 16) * (1 + (part < text ? part : 0) / 32));
  }
  void fits(std::size_t bytes) const {
    if (bytes > limits_.text_bytes) text_too_long();
  }
  // Before a list of `count` values is made.
  void values(std::size_t count) {
    steps(count + 1);
    made(count * kValueBytes);
  }

  void enter() {
    if (depth_ >= limits_.depth) too_deep();
    ++depth_;
  }
  void leave() { --depth_; }
  const Limits& limits() const { return limits_; }

 private:
  static constexpr std::size_t kValueBytes = 100;  // of a short string in a list

  void made(std::size_t bytes) {
    total_bytes_ += bytes;
    if (total_bytes_ > limits_.total_bytes) too_many_bytes();
  }
  [[noreturn]] void out_of_steps() const;
  [[noreturn]] void too_many_bytes() const;
  [[noreturn]] void text_too_long() const;
  [[noreturn]] void too_deep() const;

  Limits limits_;
  std::int64_t steps_left_;
  std::size_t total_bytes_ = 0;
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
