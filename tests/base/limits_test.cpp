// Control groups as the kernel shows them, in folders that stand for /proc and /sys.
#include "ithaca/base/limits.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ithaca/base/error.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr const char* kMount2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
constexpr const char* kMount1 =
    "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n";

class Machine {
 public:
  // `group` is /proc/self/cgroup, `mounts` /proc/self/mountinfo.
  Machine(const std::string& group, const std::string& mounts) {
    folder_.write("proc/self/cgroup", group);
    folder_.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts);
  }
  void write(const std::string& name, const std::string& text) const {
    folder_.write("sys/fs/cgroup/" + name, text);
  }
  void write_proc(const std::string& name, const std::string& text) const {
    folder_.write("proc/" + name, text);
  }
  ControlGroups groups() const { return ControlGroups(folder_ / ""); }

 private:
  TemporaryFolder folder_;
};

TEST(ControlGroups, Version2TakesTheSmallestOnTheWayUp) {
  const Machine machine("0::/user.slice/job.scope\n", kMount2);
  machine.write("user.slice/job.scope/cpu.max", "max 100000\n");
  EXPECT_EQ(machine.groups().cpu_quota(), std::nullopt);
  machine.write("user.slice/cpu.max", "350000 100000\n");
  EXPECT_THAT(machine.groups().cpu_quota(), Optional(3.5));
  machine.write("user.slice/job.scope/cpu.max", "50000 100000\n");
  machine.write("user.slice/job.scope/memory.max", "max\n");
  EXPECT_THAT(machine.groups().cpu_quota(), Optional(0.5));
  EXPECT_EQ(machine.groups().memory_limit(), std::nullopt);
  machine.write("user.slice/memory.max", "1073741824\n");
  EXPECT_THAT(machine.groups().memory_limit(), Optional(1073741824u));
}

TEST(ControlGroups, Version1) {
  const Machine machine("4:memory:/docker/7\n3:cpu,cpuacct:/docker/7\n0::/\n",
                        kMount1 + std::string(kMount2));
  machine.write("cpu,cpuacct/docker/7/cpu.cfs_quota_us", "-1\n");
  machine.write("cpu,cpuacct/docker/7/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(machine.groups().cpu_quota(), std::nullopt);
  machine.write("cpu,cpuacct/docker/7/cpu.cfs_quota_us", "150000\n");
  EXPECT_THAT(machine.groups().cpu_quota(), Optional(1.5));
  machine.write("memory/docker/7/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(machine.groups().memory_limit(), std::nullopt);
  machine.write("memory/docker/memory.limit_in_bytes", "4096\n");
  EXPECT_THAT(machine.groups().memory_limit(), Optional(4096u));
  machine.write("memory/docker/7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
  EXPECT_THAT(machine.groups().oom_kills(), Optional(3u));
}

// A container without a group namespace sees its group's whole name, and its folder is what is mounted.
TEST(ControlGroups, TheMountMayBeTheGroupItself) {
  for (const char* group : {"0::/docker/7\n", "0::/\n", "0::/../..\n"}) {
    const Machine machine(group, "30 23 0:26 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup ro\n");
    machine.write("cpu.max", "200000 100000\n");
    EXPECT_THAT(machine.groups().cpu_quota(), Optional(2.0)) << group;
  }
}

TEST(ControlGroups, KilledProcessesAreCountedByGroupOrMachine) {
  const Machine machine("0::/job\n", kMount2);
  EXPECT_EQ(machine.groups().oom_kills(), std::nullopt);
  machine.write_proc("vmstat", "nr_free_pages 7\noom_kill 11\n");
  EXPECT_THAT(machine.groups().oom_kills(), Optional(11u));
  machine.write("job/memory.events", "low 0\nhigh 0\nmax 5\noom 2\noom_kill 2\n");
  EXPECT_THAT(machine.groups().oom_kills(), Optional(2u));
}

TEST(ControlGroups, WhatIsMissingOrOddLimitsNothing) {
  const TemporaryFolder empty;
  EXPECT_EQ(ControlGroups(empty / "").cpu_quota(), std::nullopt);
  for (const char* text : {"", "max", "0 0", "-5 100000", "50000", "50000 0", "\xff\xfe"}) {
    const Machine machine("0::/job\n", kMount2);
    machine.write("job/cpu.max", text);
    machine.write("job/memory.max", text);
    EXPECT_EQ(machine.groups().cpu_quota(), std::nullopt) << text;
  }
  for (const char* group : {"", "::", "0:", "no colon\n", "0::job\n"})
    EXPECT_EQ(Machine(group, kMount2).groups().cpu_quota(), std::nullopt) << group;
  for (const char* mounts : {"- cgroup2", "1 2 3 4 5 6 7 - cgroup2\n", "30 23 0:26 / /sys/fs/cgroup\n"})
    EXPECT_EQ(Machine("0::/job\n", mounts).groups().cpu_quota(), std::nullopt) << mounts;
}

TEST(CpuLimits, ThreadsFollowTheQuotaRoundedUp) {
  const auto cores = [](int allowed, std::optional<double> quota) {
    return CpuLimits{.allowed = allowed, .quota = quota}.cores();
  };
  EXPECT_EQ(cores(16, std::nullopt), 16);
  EXPECT_EQ(cores(2, 0.5), 1);
  EXPECT_EQ(cores(16, 1.0), 1);
  EXPECT_EQ(cores(16, 1.01), 2);
  EXPECT_EQ(cores(16, 15.5), 16);
  EXPECT_EQ(cores(4, 400), 4);
}

TEST(MemoryLimits, TheSmallestIsNamed) {
  MemoryLimits limits{.machine = uint64_t{8} << 30, .group = uint64_t{2} << 30, .process = uint64_t{3} << 30};
  EXPECT_EQ(limits.total(), uint64_t{2} << 30);
  EXPECT_THAT(limits.words(limits.total()), testing::AllOf(HasSubstr("container"), HasSubstr("2.0 GiB")));
  EXPECT_THAT(limits.words(uint64_t{3} << 30), HasSubstr("ulimit -v"));
  limits.group.reset();
  EXPECT_THAT(limits.words(limits.total()), HasSubstr("the machine has 8.0 GiB"));
}

TEST(SizeText, HasAUnit) {
  EXPECT_EQ(size_text(0), "0 bytes");
  EXPECT_EQ(size_text(8192), "8.0 KiB");
  EXPECT_EQ(size_text(uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(size_text(uint64_t{5} << 40), "5120.0 GiB");
}

TEST(OpenFiles, TheSoftLimitRisesAndTooFewAreNamed) {
  const pid_t child = fork();  // a hard limit is not raised again
  if (child == 0) {
    const rlimit limit{20, 40};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(1);
    raise_open_files(30);
    rlimit now{};
    getrlimit(RLIMIT_NOFILE, &now);
    if (now.rlim_cur != 40) _exit(2);
    try {
      raise_open_files(41);
    } catch (const UserError& error) {
      const std::string text = error.what();
      _exit(text.find("only 40 files") != std::string::npos && text.find("ulimit -n") != std::string::npos
                ? 0
                : 4);
    }
    _exit(3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

}  // namespace
}  // namespace ithaca
