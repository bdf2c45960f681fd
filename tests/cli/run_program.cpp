#include "tests/cli/run_program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace fs = std::filesystem;

namespace ithaca::testing_program {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string text_of(const fs::path& file) {
  std::stringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

bool set_by_a_launcher(const std::string& name) {
  for (const char* exact : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "ITHACA_LISTEN_FD",
                            "ITHACA_SPAWNED", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "LOCAL_SIZE"})
    if (name == exact) return true;
  for (const char* prefix :
       {"MASTER_", "OMPI_", "PMI_", "PMIX_", "MV2_", "MVP_", "SLURM_", "TORCHELASTIC_", "TORCH_CPP_"})
    if (name.starts_with(prefix)) return true;
  return false;
}

std::vector<std::string> environment_with(const Variables& variables) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry, name = text.substr(0, text.find('='));
    if (!set_by_a_launcher(name) && !variables.contains(name)) result.push_back(text);
  }
  for (const auto& [name, value] : variables) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Program::Program(const std::vector<std::string>& argv, const Variables& variables) : started_(now()) {
  // all memory is taken before the fork
  const std::string out = folder_ / "out", err = folder_ / "err";
  std::vector<std::string> words = argv, settings = environment_with(variables);
  const std::vector<char*> arguments = pointers(words), environment = pointers(settings);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    setpgid(0, 0);
    const int in_fd = open("/dev/null", O_RDONLY);
    const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_fd = open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (dup2(in_fd, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0) _exit(126);
    for (const int fd : {in_fd, out_fd, err_fd}) close(fd);
    execve(arguments[0], arguments.data(), environment.data());
    _exit(127);
  }
  setpgid(pid_, pid_);  // both sides set it: whoever is first, the group exists from here on
}

Program::~Program() {
  kill(-pid_, SIGKILL);
  if (!reaped_) waitpid(pid_, &status_, 0);
}

bool Program::ended() {
  if (!reaped_ && waitpid(pid_, &status_, WNOHANG) == pid_) {
    reaped_ = true;
    ended_ = now();
  }
  return reaped_;
}

std::string Program::err() const {
  return text_of(folder_ / "err");
}

double Program::seconds() const {
  return (reaped_ ? ended_ : now()) - started_;
}

void Program::send(int signal) const {
  kill(pid_, signal);
}

Result Program::wait(double limit_seconds) {
  const double limit = now() + limit_seconds;
  while (!ended() && now() < limit) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  Result result;
  result.timed_out = !reaped_;
  if (result.timed_out) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
    reaped_ = true;
    ended_ = now();
  } else {
    result.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  }
  result.out = text_of(folder_ / "out");
  result.err = err();
  result.seconds = seconds();
  return result;
}

Result run_program(const std::vector<std::string>& argv, const Variables& variables, double limit_seconds) {
  return Program(argv, variables).wait(limit_seconds);
}

Variables torchrun_variables(int rank, int world_size, const std::string& port) {
  return {{"RANK", std::to_string(rank)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(world_size)},
          {"LOCAL_WORLD_SIZE", std::to_string(world_size)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", port}};
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string number = std::to_string(pid);
  std::ifstream list("/proc/" + number + "/task/" + number + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; list >> child;) children.push_back(child);
  return children;
}

std::string variable_of(pid_t pid, const std::string& name) {
  std::istringstream entries(text_of("/proc/" + std::to_string(pid) + "/environ"));
  for (std::string entry; std::getline(entries, entry, '\0');)
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  return "";
}

bool is_running(pid_t pid) {
  const std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t state = stat.rfind(") ");  // the name before it may hold anything
  return state != std::string::npos && stat[state + 2] != 'Z' && stat[state + 2] != 'X';
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_TRUE(fd >= 0 && bind(fd, generic, length) == 0 && getsockname(fd, generic, &length) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

}  // namespace ithaca::testing_program
