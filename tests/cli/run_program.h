// Runs programs as a user or a launcher would: real processes, with a time limit on everything.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace ithaca::testing_program {

struct Result {
  int code = -1;           // exit code; 128 + signal if a signal ended it; -1 after a timeout
  bool timed_out = false;  // it was still running at its limit and has been killed with its children
  std::string out, err;
  double seconds = 0;  // from start to end
};

using Variables = std::map<std::string, std::string>;

// One process in a process group of its own, its standard output and error kept in files of a temporary
// folder. It starts with this process's environment less what any launcher sets (RANK, OMPI_*, SLURM_* ...),
// plus `variables`. The destructor kills the group: no test leaves a process behind.
class Program {
 public:
  explicit Program(const std::vector<std::string>& argv, const Variables& variables = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  bool ended();             // without waiting
  std::string err() const;  // so far
  double seconds() const;   // since the start
  void send(int signal) const;
  // Waits for the end; after `limit_seconds` from now kills the group and says so in the result.
  Result wait(double limit_seconds);

 private:
  TemporaryFolder folder_;
  pid_t pid_ = 0;
  double started_ = 0, ended_ = 0;
  int status_ = 0;
  bool reaped_ = false;
};

Result run_program(const std::vector<std::string>& argv, const Variables& variables = {},
                   double limit_seconds = 20);

// What torchrun sets for one rank of a single machine.
Variables torchrun_variables(int rank, int world_size, const std::string& port);

// Direct children of `pid`, in the order of their start.
std::vector<pid_t> children_of(pid_t pid);
// A variable of the environment that a running process was started with; empty if it has none.
std::string variable_of(pid_t pid, const std::string& name);
// Whether `pid` still runs; one that ended and nobody reaped does not.
bool is_running(pid_t pid);
// A loopback port that nobody listens on at the moment.
int free_port();

}  // namespace ithaca::testing_program
