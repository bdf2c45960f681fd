// The run's log. Only rank 0 speaks on the terminal (standard error); every rank may write a file of its own.
// spdlog stays inside log.cpp: its fmt and the one in libtorch's headers must not meet in one file.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace ithaca {

class Logger {
 public:
  // `file` empty: no file. Lines there carry time, level and rank.
  Logger(int rank, bool on_terminal, const std::filesystem::path& file);
  ~Logger();
  void note(std::string_view line);  // into the file only
  void info(std::string_view line);
  void warning(std::string_view line);
  void error(std::string_view line);
  // Called before and after a terminal line, so that a progress bar can clear and redraw itself. Either may
  // be empty.
  void set_terminal_guard(void (*before)(void*), void (*after)(void*), void* context);

 private:
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
};

}  // namespace ithaca
