#include "ithaca/train/log_sinks.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr std::size_t kMaxLogBytes = std::size_t{4} << 30;

OrderedJson number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

std::optional<double> number(const OrderedJson& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (found->is_number()) return found->get<double>();
  if (*found == "nan") return std::nan("");
  if (*found == "inf") return INFINITY;
  if (*found == "-inf") return -INFINITY;
  return std::nullopt;
}

std::optional<int64_t> integer(const OrderedJson& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

// Seconds of "H:MM:SS"
double seconds_of(const OrderedJson& object, const char* key) {
  long hours = 0;
  int minutes = 0, seconds = 0;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return 0;
  if (std::sscanf(found->get_ref<const std::string&>().c_str(), "%ld:%d:%d", &hours, &minutes, &seconds) != 3)
    return 0;
  return 3600.0 * static_cast<double>(hours) + 60.0 * minutes + seconds;
}

// Three significant digits and the largest suffix that leaves at least 1 in front.
std::string scaled(double value, const std::array<const char*, 6>& suffixes) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : "inf";
  std::size_t s = 0;
  while (std::abs(value) >= 999.5 && s + 1 < suffixes.size()) {
    value /= 1000;
    ++s;
  }
  const double size = std::abs(value);
  const int decimals = size >= 99.95 || (s == 0 && value == std::round(value)) ? 0 : size >= 9.995 ? 1 : 2;
  char text[48];
  std::snprintf(text, sizeof text, "%.*f%s", decimals, value, suffixes[s]);
  return text;
}

}  // namespace

std::string clock_text(double seconds) {
  if (!(seconds >= 0) || !std::isfinite(seconds)) return "-:--:--";
  const auto whole = static_cast<int64_t>(std::min(seconds, 3.6e9));
  char text[32];
  std::snprintf(text, sizeof text, "%ld:%02d:%02d", static_cast<long>(whole / 3600),
                static_cast<int>(whole / 60 % 60), static_cast<int>(whole % 60));
  return text;
}

std::string bytes_text(double bytes) {
  return scaled(bytes, {" B", " kB", " MB", " GB", " TB", " PB"});
}
std::string count_text(double count) {
  return scaled(count, {"", "k", "M", "G", "T", "P"});
}
std::string flops_text(double flops_per_second) {
  return scaled(flops_per_second, {" FLOP/s", " kFLOP/s", " MFLOP/s", " GFLOP/s", " TFLOP/s", " PFLOP/s"});
}

double perplexity(double loss) {
  return std::exp(loss);
}

std::string trainer_log_line(const StepRecord& record) {
  OrderedJson line;
  const auto put = [&](const char* key, const std::optional<double>& value) {
    if (value) line[key] = number(*value);
  };
  line["current_steps"] = record.current_steps;
  line["total_steps"] = record.total_steps;
  put("loss", record.loss);
  put("eval_loss", record.eval_loss);
  if (record.eval_loss) line["perplexity"] = number(perplexity(*record.eval_loss));
  put("grad_norm", record.grad_norm);
  put("lr", record.lr);
  line["epoch"] = number(record.epoch);
  if (record.total_steps > 0) {
    const double percentage =
        100.0 * static_cast<double>(record.current_steps) / static_cast<double>(record.total_steps);
    line["percentage"] = std::round(percentage * 100) / 100;
  }
  line["elapsed_time"] = clock_text(record.elapsed_seconds);
  line["remaining_time"] = clock_text(record.remaining_seconds);
  put("throughput", record.tokens_per_second);
  put("tokens_per_second", record.tokens_per_second);
  put("tokens_per_second_per_rank", record.tokens_per_second_per_rank);
  put("model_flops_per_second", record.model_flops_per_second);
  if (record.peak_memory_bytes) line["peak_memory_bytes"] = *record.peak_memory_bytes;
  if (record.total_tokens) line["total_tokens"] = *record.total_tokens;
  return line.dump();
}

std::optional<StepRecord> parse_trainer_log_line(std::string_view text) {
  const OrderedJson line = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return std::nullopt;
  const auto current = integer(line, "current_steps");
  if (!current) return std::nullopt;
  StepRecord record;
  record.current_steps = *current;
  record.total_steps = integer(line, "total_steps").value_or(0);
  record.epoch = number(line, "epoch").value_or(0);
  record.loss = number(line, "loss");
  record.eval_loss = number(line, "eval_loss");
  record.grad_norm = number(line, "grad_norm");
  record.lr = number(line, "lr");
  record.tokens_per_second = number(line, "tokens_per_second");
  record.tokens_per_second_per_rank = number(line, "tokens_per_second_per_rank");
  record.model_flops_per_second = number(line, "model_flops_per_second");
  record.peak_memory_bytes = integer(line, "peak_memory_bytes");
  record.total_tokens = integer(line, "total_tokens");
  record.elapsed_seconds = seconds_of(line, "elapsed_time");
  record.remaining_seconds = seconds_of(line, "remaining_time");
  return record;
}

TrainerLog::TrainerLog(const fs::path& file, std::optional<int64_t> resumed_step) : file_(file) {
  std::string kept;
  if (resumed_step && fs::exists(file)) {
    const std::string old = read_file(file, kMaxLogBytes);
    for (std::string_view rest = old; !rest.empty();) {
      const std::size_t end = rest.find('\n');
      if (end == std::string_view::npos) break;  // torn by a crash
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      const auto record = parse_trainer_log_line(line);
      if (!record || record->current_steps > *resumed_step) continue;
      history_.push_back(*record);
      kept.append(line).push_back('\n');
    }
  }
  write_file(file, kept);
  fd_ = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) throw UserError(str(file.string(), ": cannot write the log: ", std::strerror(errno)));
}

TrainerLog::~TrainerLog() {
  ::close(fd_);
}

void TrainerLog::write(const StepRecord& record) {
  const std::string line = trainer_log_line(record) + "\n";
  ssize_t written = 0;
  do {
    written = ::write(fd_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(line.size()))
    throw UserError(str(file_.string(),
                        ": cannot write the log: ", written < 0 ? std::strerror(errno) : "the disk is full"));
  history_.push_back(record);
}

}  // namespace ithaca
