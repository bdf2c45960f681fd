// A run's figures on the terminal: a progress bar redrawn in place, or plain lines where there is no
// terminal. Only rank 0 speaks.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ithaca/train/log_sinks.h"

namespace ithaca {

// One plain line for a person, without a newline.
std::string plain_line(const StepRecord& record);

struct BarState {
  int64_t step = 0;  // steps done
  int64_t total_steps = 0;
  double fraction = 0;  // of the step under way, 0 to 1
  double elapsed_seconds = 0;
  double remaining_seconds = -1;
  StepRecord last;  // figures shown
};

struct BarStyle {
  int width = 80;  // columns the line may fill
  bool unicode = true;
  bool colour = false;
};

// The bar as one line of at most style.width columns; what is least missed goes first when they are few.
std::string bar_text(const BarState& state, const BarStyle& style);

// Terminal output of a run: a bar redrawn in place when `fd` is a terminal, else one plain line for each
// logged step.
class Progress {
 public:
  struct Options {
    int fd = 2;  // standard error, where the Logger speaks too
    int64_t total_steps = 0;
    int64_t first_step = 0;              // steps done before (resume)
    std::optional<bool> bar = {};        // not set: a terminal that is not TERM=dumb
    std::optional<BarStyle> style = {};  // not set: from window size, LC_ALL / LC_CTYPE / LANG, NO_COLOR
    double redraws_per_second = 10;
  };
  explicit Progress(const Options& options);
  ~Progress();  // ends the bar's line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step_done(int64_t current_steps);  // every step
  void log(const StepRecord& record);     // logged steps and evaluations
  // How much of the step under way is done, 0 to 1 (micro-batches, layers): cheap enough to be called per
  // layer.
  void tick(double fraction_of_step);
  // For Logger::set_terminal_guard: take the bar away before a line, draw it again after.
  void hide();
  void show();
  void finish();  // draws a last time and ends the line

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool even_if_recent);
  void put(std::string_view bytes) const;
  BarStyle style_now() const;

  Options options_;
  bool bar_ = false;
  bool drawn_ = false;
  bool finished_ = false;
  BarState state_;
  Clock::time_point started_;
  Clock::time_point last_draw_;
};

}  // namespace ithaca
