#include "ithaca/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {

struct Logger::Sinks {
  std::shared_ptr<spdlog::logger> terminal;
  std::shared_ptr<spdlog::logger> file;
  void (*before)(void*) = nullptr;
  void (*after)(void*) = nullptr;
  void* context = nullptr;

  void write(spdlog::level::level_enum level, std::string_view line) {
    const spdlog::string_view_t view(line.data(), line.size());
    if (terminal) {
      if (before) before(context);
      terminal->log(level, view);
      if (after) after(context);
    }
    if (file) file->log(level, view);
  }
};

Logger::Logger(int rank, bool on_terminal, const std::filesystem::path& file)
    : sinks_(std::make_unique<Sinks>()) {
  if (on_terminal) {
    sinks_->terminal =
        std::make_shared<spdlog::logger>("terminal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    sinks_->terminal->set_pattern("%v");
  }
  if (!file.empty()) {
    try {
      sinks_->file = std::make_shared<spdlog::logger>(
          "file", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
    } catch (const spdlog::spdlog_ex& error) {
      throw UserError(str(file.string(), ": cannot write the log: ", error.what()));
    }
    sinks_->file->set_pattern(str("%Y-%m-%d %H:%M:%S.%e [%l] [rank ", rank, "] %v"));
    sinks_->file->flush_on(spdlog::level::info);
  }
}
Logger::~Logger() = default;

void Logger::note(std::string_view line) {
  if (sinks_->file) sinks_->file->info(spdlog::string_view_t(line.data(), line.size()));
}
void Logger::info(std::string_view line) {
  sinks_->write(spdlog::level::info, line);
}
void Logger::warning(std::string_view line) {
  sinks_->write(spdlog::level::warn, str("warning: ", line));
}
void Logger::error(std::string_view line) {
  sinks_->write(spdlog::level::err, str("error: ", line));
}

void Logger::set_terminal_guard(void (*before)(void*), void (*after)(void*), void* context) {
  sinks_->before = before;
  sinks_->after = after;
  sinks_->context = context;
}

}  // namespace ithaca
