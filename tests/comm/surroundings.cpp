#include "tests/comm/surroundings.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>

namespace ithaca {
namespace {

void filter_process_vm_readv(unsigned action) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof program / sizeof program[0], program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
    std::abort();
}

}  // namespace

void change_surroundings(const std::string& how) {
  if (how == "kill") {
    filter_process_vm_readv(SECCOMP_RET_KILL_PROCESS);
  } else if (how.starts_with("errno ")) {
    filter_process_vm_readv(SECCOMP_RET_ERRNO | static_cast<unsigned>(std::stoi(how.substr(6))));
  } else if (how == "no files") {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{0, 0};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::abort();
  }
}

}  // namespace ithaca
