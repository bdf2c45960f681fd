// Errors and checks. Four kinds leave a program, each with its exit code (docs/architecture.md, "Exit
// codes"):
//  - UserError, 2: a setting, file or layout the user can mend; names what, where, what was expected, a fix.
//  - NumericsError, 3: NaN, or an overflow without end.
//  - CommunicationError, 4: a rank or the network failed.
//  - Stopped, 75: SIGTERM or SIGINT came while there was nothing to save yet; the same command starts anew.
// ITHACA_CHECK is for invariants: a failure is our own fault (exit code 1).
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ithaca {

enum ExitCode : int {
  kDone = 0,
  kInternal = 1,
  kUserMistake = 2,
  kNumericsFailed = 3,
  kRankFailed = 4,
  kStoppedAndSaved = 75
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

struct UserError : Error {
  explicit UserError(const std::string& message) : Error(kUserMistake, message) {}
};
struct NumericsError : Error {
  explicit NumericsError(const std::string& message) : Error(kNumericsFailed, message) {}
};
struct CommunicationError : Error {
  explicit CommunicationError(const std::string& message) : Error(kRankFailed, message) {}
};
struct Stopped : Error {
  explicit Stopped(const std::string& message) : Error(kStoppedAndSaved, message) {}
};

// str("rank ", 3, " of ", 4) == "rank 3 of 4"
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Collects every problem of one input, so that the user mends them in one go.
class Problems {
 public:
  void add(std::string problem) { list_.push_back(std::move(problem)); }
  bool empty() const { return list_.empty(); }
  const std::vector<std::string>& list() const { return list_; }
  // Throws one UserError that lists all problems below `heading`; does nothing when there are none.
  void throw_if_any(const std::string& heading) const {
    if (list_.empty()) return;
    std::string message = heading;
    for (const std::string& problem : list_) message += "\n  - " + problem;
    throw UserError(message);
  }

 private:
  std::vector<std::string> list_;
};

}  // namespace ithaca

#define ITHACA_CHECK(condition, ...)                                                                     \
  do {                                                                                                   \
    if (!(condition)) [[unlikely]]                                                                       \
      throw ::ithaca::Error(                                                                             \
          ::ithaca::kInternal,                                                                           \
          ::ithaca::str("[", __func__, "] check failed: ", #condition, " " __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
