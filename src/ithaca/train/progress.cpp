#include "ithaca/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr const char* kEraseLine = "\r\x1b[K";
constexpr int kMinBarWidth = 10, kMaxBarWidth = 40;

std::string formatted(const char* format, double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "1,234,567"
std::string grouped(double value) {
  if (!std::isfinite(value)) return formatted("%.0f", value);
  std::string digits = formatted("%.0f", value);
  for (auto at = static_cast<int>(digits.size()) - 3; at > (digits[0] == '-' ? 1 : 0); at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

// A piece of the bar's line: its columns are counted apart from its bytes (colours take none, a block takes
// three bytes).
struct Piece {
  std::string label, value;
  int worth = 0;  // what is worth least goes first
  int columns() const { return static_cast<int>(label.size() + (label.empty() ? 0 : 1) + value.size()); }
};

std::string painted(const std::string& text, const char* code, bool colour) {
  return colour && !text.empty() ? str("\x1b[", code, "m", text, "\x1b[0m") : text;
}

std::string blocks(double fraction, int width, const BarStyle& style) {
  static constexpr std::array<const char*, 8> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double filled = std::clamp(fraction, 0.0, 1.0) * width;
  if (!style.unicode) {
    const int full = static_cast<int>(filled);
    std::string bar(static_cast<std::size_t>(full), '=');
    if (full < width) bar += full > 0 || filled > 0 ? '>' : ' ';
    bar.resize(static_cast<std::size_t>(width), ' ');
    return "[" + bar + "]";
  }
  const int eighths = static_cast<int>(filled * 8);
  std::string done, left;
  for (int i = 0; i < eighths / 8; ++i) done += "█";
  done += kEighths[static_cast<std::size_t>(eighths % 8)];
  for (int i = (eighths + 7) / 8; i < width; ++i) left += " ";
  return "▕" + painted(done, "36", style.colour) + left + "▏";
}

// One character that fills up while a step is under way.
std::string step_gauge(double fraction, bool unicode) {
  static constexpr std::array<const char*, 9> kHeights{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, 9> kAscii{" ", ".", ":", "-", "=", "+", "*", "%", "#"};
  const auto level = static_cast<std::size_t>(std::clamp(fraction, 0.0, 1.0) * 8);
  return unicode ? kHeights[level] : kAscii[level];
}

std::vector<Piece> figures(const BarState& state) {
  const StepRecord& last = state.last;
  std::vector<Piece> pieces;
  if (last.loss) pieces.push_back({"loss", formatted("%.4f", *last.loss), 90});
  if (last.tokens_per_second) pieces.push_back({"", count_text(*last.tokens_per_second) + " tok/s", 80});
  if (last.eval_loss) pieces.push_back({"eval", formatted("%.4f", *last.eval_loss), 35});
  if (last.grad_norm) pieces.push_back({"grad", formatted("%.3g", *last.grad_norm), 50});
  if (last.lr) pieces.push_back({"lr", formatted("%.2e", *last.lr), 40});
  if (last.model_flops_per_second) pieces.push_back({"", flops_text(*last.model_flops_per_second), 20});
  if (last.peak_memory_bytes)
    pieces.push_back({"", bytes_text(static_cast<double>(*last.peak_memory_bytes)), 60});
  pieces.push_back({"", clock_text(state.elapsed_seconds) + "<" + clock_text(state.remaining_seconds), 70});
  return pieces;
}

bool environment_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (!value || !*value) continue;  // the first that is set decides
    std::string text(value);
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
    return text.find("UTF-8") != std::string::npos || text.find("UTF8") != std::string::npos;
  }
  return false;
}

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value && *value;
}

}  // namespace

std::string plain_line(const StepRecord& record) {
  std::string line = str("step ", record.current_steps, "/", record.total_steps);
  if (record.total_steps > 0)
    line += formatted(" (%.1f%%)", 100.0 * static_cast<double>(record.current_steps) /
                                       static_cast<double>(record.total_steps));
  if (record.loss) line += "  loss " + formatted("%.6f", *record.loss);
  if (record.eval_loss)
    line += "  eval_loss " + formatted("%.6f", *record.eval_loss) + "  perplexity " +
            formatted("%.4g", perplexity(*record.eval_loss));
  if (record.grad_norm) line += "  grad_norm " + formatted("%.4g", *record.grad_norm);
  if (record.lr) line += "  lr " + formatted("%.3e", *record.lr);
  if (record.tokens_per_second) {
    line += "  " + grouped(*record.tokens_per_second) + " tok/s";
    if (record.tokens_per_second_per_rank)
      line += " (" + grouped(*record.tokens_per_second_per_rank) + " a rank)";
  }
  if (record.model_flops_per_second) line += "  " + flops_text(*record.model_flops_per_second);
  if (record.peak_memory_bytes) line += "  " + bytes_text(static_cast<double>(*record.peak_memory_bytes));
  return line + "  " + clock_text(record.elapsed_seconds) + " elapsed, " +
         clock_text(record.remaining_seconds) + " left";
}

std::string bar_text(const BarState& state, const BarStyle& style) {
  const double total = std::max<double>(1, static_cast<double>(state.total_steps));
  const double done =
      std::clamp((static_cast<double>(state.step) + std::clamp(state.fraction, 0.0, 1.0)) / total, 0.0, 1.0);
  const std::string of = std::to_string(state.total_steps);
  std::string counter = std::to_string(state.step);
  counter.insert(0, of.size() > counter.size() ? of.size() - counter.size() : 0,
                 ' ');  // the bar's edge stays where it is
  counter += "/" + of;
  const std::string percentage = formatted("%3.0f%%", std::floor(100 * done));

  std::vector<Piece> pieces = figures(state);
  const int head =
      static_cast<int>(counter.size() + 1 + 1 + percentage.size());  // counter, gauge, space, percentage
  const auto needed = [&] {
    int columns = head;
    for (const Piece& piece : pieces) columns += 2 + piece.columns();
    return columns;
  };
  while (!pieces.empty() && needed() + 1 + kMinBarWidth + 2 > style.width)
    pieces.erase(std::min_element(pieces.begin(), pieces.end(),
                                  [](const Piece& a, const Piece& b) { return a.worth < b.worth; }));

  std::string line = counter + painted(step_gauge(state.fraction, style.unicode), "36", style.colour) + " ";
  const int bar = std::min(kMaxBarWidth, style.width - needed() - 3);
  if (bar >= 3)
    line += blocks(done, bar, style) + " ";
  else if (head > style.width)
    return counter.substr(0, static_cast<std::size_t>(std::max(0, style.width)));
  line += painted(percentage, "1", style.colour);
  for (const Piece& piece : pieces) {
    line += "  ";
    if (!piece.label.empty()) line += painted(piece.label, "2", style.colour) + " ";
    line += piece.value;
  }
  return line;
}

Progress::Progress(const Options& options) : options_(options), started_(Clock::now()) {
  const char* terminal = std::getenv("TERM");
  bar_ = options.bar.value_or(::isatty(options.fd) == 1 && terminal && *terminal &&
                              std::string_view(terminal) != "dumb");
  state_.step = options.first_step;
  state_.total_steps = options.total_steps;
  draw(true);
}

Progress::~Progress() {
  finish();
}

BarStyle Progress::style_now() const {
  if (options_.style) return *options_.style;
  BarStyle style;
  winsize size{};
  if (::ioctl(options_.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) style.width = size.ws_col;
  style.width -= 1;  // a character in the last column makes some terminals wrap
  style.unicode = environment_is_utf8();
  style.colour = !is_set("NO_COLOR");
  return style;
}

void Progress::put(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = ::write(options_.fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // a closed terminal is no reason to stop a run
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void Progress::draw(bool even_if_recent) {
  if (!bar_ || finished_) return;
  const auto now = Clock::now();
  if (!even_if_recent &&
      std::chrono::duration<double>(now - last_draw_).count() * options_.redraws_per_second < 1)
    return;
  last_draw_ = now;
  state_.elapsed_seconds = std::chrono::duration<double>(now - started_).count();
  const double done = static_cast<double>(state_.step - options_.first_step) + state_.fraction;
  const double left = static_cast<double>(state_.total_steps - options_.first_step) - done;
  state_.remaining_seconds = left <= 0 ? 0 : done > 0 ? state_.elapsed_seconds * left / done : -1;
  put(kEraseLine + bar_text(state_, style_now()));
  drawn_ = true;
}

void Progress::step_done(int64_t current_steps) {
  state_.step = current_steps;
  state_.fraction = 0;
  draw(current_steps == state_.total_steps);
}

void Progress::log(const StepRecord& record) {
  if (!bar_) return put(plain_line(record) + "\n");
  if (record.eval_loss) {
    state_.last.eval_loss = record.eval_loss;
    hide();
    put(plain_line(record) + "\n");
  }
  if (record.loss) {
    const auto eval_loss = state_.last.eval_loss;
    state_.last = record;
    if (!record.eval_loss) state_.last.eval_loss = eval_loss;
  }
  draw(!drawn_ || state_.step == state_.total_steps);
}

void Progress::tick(double fraction_of_step) {
  if (!bar_) return;
  state_.fraction = fraction_of_step;
  draw(false);
}

void Progress::hide() {
  if (drawn_) put(kEraseLine);
  drawn_ = false;
}

void Progress::show() {
  draw(true);
}

void Progress::finish() {
  if (finished_) return;
  draw(true);
  if (drawn_) put("\n");
  finished_ = true;
  drawn_ = false;
}

}  // namespace ithaca
