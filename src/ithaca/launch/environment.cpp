#include "ithaca/launch/environment.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "ithaca/base/error.h"
#include "ithaca/base/json.h"

namespace ithaca {
namespace {

constexpr int kDefaultPort = 29500;

// The variables of one launcher; an empty name: it has none.
struct Family {
  const char *source, *rank, *world_size, *local_rank, *local_world_size;
};
constexpr const char* kSlurm = "slurm";
constexpr Family kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Family kFamilies[] = {
    kTorchrun,
    {"openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mvapich", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
     "MV2_COMM_WORLD_LOCAL_SIZE"},
    {"mvapich", "MVP_COMM_WORLD_RANK", "MVP_COMM_WORLD_SIZE", "MVP_COMM_WORLD_LOCAL_RANK",
     "MVP_COMM_WORLD_LOCAL_SIZE"},
    {"mpich", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {kSlurm, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", ""},
};
// Other names of a local rank and a local size: of Cray's PALS, of DeepSpeed's launcher, of torchrun.
constexpr const char* kLocalRanks[] = {"PMI_LOCAL_RANK", "LOCAL_RANK"};
constexpr const char* kLocalSizes[] = {"PMI_LOCAL_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"};

class Reader {
 public:
  Reader(const GetVariable& get, const char* source) : get_(get), source_(source) {}

  std::optional<std::string> text(const std::string& name) const {
    const char* value = name.empty() ? nullptr : get_(name.c_str());
    return value && *value ? std::optional<std::string>(value) : std::nullopt;
  }
  std::optional<int> number(const std::string& name, int low, int high) const {
    const std::optional<std::string> value = text(name);
    if (!value) return std::nullopt;
    int result = 0;
    const auto [end, failure] = std::from_chars(value->data(), value->data() + value->size(), result);
    if (failure != std::errc() || end != value->data() + value->size() || result < low || result > high) {
      fail(str(name, " is '", *value, "', expected a whole number from ", low, " to ", high));
    }
    return result;
  }
  int required(const std::string& name, int low, int high, const std::string& fix) const {
    const std::optional<int> value = number(name, low, high);
    if (!value) fail(name + " is not set. " + fix);
    return *value;
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw UserError(str("environment of the launcher (", source_, "): ", problem));
  }

 private:
  const GetVariable& get_;
  const char* source_;
};

constexpr int kMaxRanks = 1 << 24;
constexpr uint32_t kSpecialSlurmSteps = 0xfffffff0;  // interactive, batch, extern ... have numbers above

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

// Whether this process is a task that srun started. A batch script has SLURM_PROCID=0 as well, and SLURM_NTASKS
// where sbatch was told, but no step; the shell of an interactive step has a number from the top of 32 bits.
bool slurm_step(const Reader& read) {
  if (!read.text("SLURM_PROCID")) return false;
  for (const char* name : {"SLURM_STEP_ID", "SLURM_STEPID"}) {
    const std::optional<std::string> step = read.text(name);
    if (!step) continue;
    uint32_t number = 0;
    const char* stop = step->data() + step->size();
    const auto [end, failure] = std::from_chars(step->data(), stop, number);
    return failure == std::errc() && end == stop && number < kSpecialSlurmSteps;
  }
  for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"})
    if (read.text(name)) return true;
  return *read.text("SLURM_PROCID") != "0";
}

bool slurm_batch(const Reader& read) {
  return read.text("SLURM_JOB_ID") && !slurm_step(read);
}

int slurm_tasks(const Reader& read) {
  for (const char* name : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"})
    if (const std::optional<int> tasks = read.number(name, 1, kMaxRanks)) return *tasks;
  read.fail("SLURM_NTASKS is not set. SLURM_PROCID is set, so it must be too.");
}

// Of the job and its step: two steps of a job may share a machine.
int slurm_port(const Reader& read) {
  const int64_t job = read.number("SLURM_JOB_ID", 0, 2147483647).value_or(0);
  const int64_t step = read.number("SLURM_STEP_ID", 0, 2147483647).value_or(0);
  return static_cast<int>(20000 + (job + 131 * step) % 20000);
}

// Tasks on this node from "2(x3),1" and the node's number; nothing when Slurm does not say.
std::optional<int> slurm_local_size(const Reader& read) {
  std::optional<std::string> list = read.text("SLURM_STEP_TASKS_PER_NODE");
  if (!list) list = read.text("SLURM_TASKS_PER_NODE");
  if (!list) return std::nullopt;
  const int node = read.number("SLURM_NODEID", 0, kMaxRanks).value_or(0);
  int first = 0;
  for (std::size_t at = 0; at < list->size();) {
    const std::size_t end = std::min(list->find(',', at), list->size());
    const std::string item = list->substr(at, end - at);
    int tasks = 0, repeat = 1;
    const char* stop = item.data() + item.size();
    const auto [next, failure] = std::from_chars(item.data(), stop, tasks);
    bool good = failure == std::errc() && tasks > 0;
    if (good && next != stop) {
      good = std::string_view(next, static_cast<std::size_t>(stop - next)).starts_with("(x");
      if (good)
        good = std::from_chars(next + 2, stop, repeat).ec == std::errc() && repeat > 0 && item.back() == ')';
    }
    if (!good) read.fail(str("SLURM_TASKS_PER_NODE is '", *list, "', expected a list such as 2(x3),1"));
    if (node < first + repeat) return tasks;
    first += repeat;
    at = end + 1;
  }
  read.fail(str("SLURM_NODEID is ", node, ", but SLURM_TASKS_PER_NODE '", *list, "' has ", first, " nodes"));
}

void read_local(const Reader& read, const Family& family, RankEnvironment& result) {
  const std::optional<std::string> address = read.text("MASTER_ADDR");
  const bool one_machine = result.world_size == 1 || (address && is_loopback(*address));
  std::optional<int> size = family.source == kSlurm
                                ? slurm_local_size(read)
                                : read.number(family.local_world_size, 1, result.world_size);
  std::optional<int> rank = read.number(family.local_rank, 0, result.world_size - 1);
  for (const char* name : kLocalRanks) rank = rank ? rank : read.number(name, 0, result.world_size - 1);
  for (const char* name : kLocalSizes) size = size ? size : read.number(name, 1, result.world_size);
  if (one_machine) {
    if (!rank) rank = result.rank;
    if (!size) size = result.world_size;
  }
  if (!rank)
    read.fail(str(family.local_rank, " is not set. Set LOCAL_RANK to this rank's number on its machine."));
  if (!size) read.fail("the number of ranks on this machine is not known. Set LOCAL_WORLD_SIZE.");
  result.local_rank = *rank;
  result.local_world_size = *size;
  if (result.local_world_size > result.world_size || result.local_rank >= result.local_world_size) {
    read.fail(str("local rank ", *rank, " of ", *size, " does not fit in a world of ", result.world_size));
  }
}

void read_master(const Reader& read, const std::string& source, RankEnvironment& result) {
  const bool own = source == "torchrun" || source == "ithaca";
  const bool one_machine = result.local_world_size == result.world_size;
  const std::optional<std::string> address = read.text("MASTER_ADDR");
  if (address) {
    result.master_addr = *address;
  } else if (source == kSlurm && !one_machine) {
    std::optional<std::string> nodes = read.text("SLURM_STEP_NODELIST");
    for (const char* name : {"SLURM_JOB_NODELIST", "SLURM_NODELIST"}) nodes = nodes ? nodes : read.text(name);
    if (!nodes)
      read.fail("MASTER_ADDR and SLURM_NODELIST are not set. Set MASTER_ADDR to the host of rank 0.");
    result.master_addr = first_slurm_host(*nodes);
  } else if (!one_machine || own) {
    read.fail("MASTER_ADDR is not set. Set it to the host of rank 0.");
  }
  if (own) {
    result.master_port =
        read.required("MASTER_PORT", 1, 65535, "Set it to a free port of the host of rank 0.");
    return;
  }
  result.master_port =
      read.number("MASTER_PORT", 1, 65535).value_or(source == kSlurm ? slurm_port(read) : kDefaultPort);
}

// A family of variables, of which the rank's is set; Slurm's only where the process is a task of a step.
const Family* find_family(const Reader& read) {
  const bool step = slurm_step(read);
  for (const Family& family : kFamilies) {
    if (!read.text(family.rank)) continue;
    if (family.source == kSlurm) return step ? &family : nullptr;
    // srun --mpi=pmi2 sets PMI_RANK without the local numbers, beside its own variables, which have them.
    if (family.rank == std::string_view("PMI_RANK") && step && !read.text(family.local_rank) &&
        read.text("SLURM_PROCID") == read.text("PMI_RANK"))
      continue;
    return &family;
  }
  return nullptr;
}

// No rank was told: this process is alone, unless something says that it should not be.
RankEnvironment alone(const Reader& read) {
  if (const std::optional<std::string> size = read.text("WORLD_SIZE"); size && *size != "1")
    read.fail(str("WORLD_SIZE is '", *size, "', but RANK is not set"));
  if (const std::optional<std::string> rank = read.text("PMIX_RANK"); rank && !slurm_batch(read))
    read.fail(
        str("PMIX_RANK is '", *rank,
            "', but nothing says how many ranks there are. Start the program with mpirun, srun or "
            "torchrun, or set RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT."));
  RankEnvironment result;
  const std::string tasks = read.text("SLURM_NTASKS").value_or("1");
  if (slurm_batch(read) && tasks != "1")
    result.remark = str("SLURM_NTASKS is ", tasks,
                        ", but this is the batch script itself and no task of srun: one process runs. For ",
                        tasks, " ranks start it with srun, for ranks on this machine alone with --nproc");
  return result;
}

}  // namespace

RankEnvironment read_rank_environment(const GetVariable& get) {
  const GetVariable variable = get ? get : [](const char* name) -> const char* { return std::getenv(name); };
  const Family* family = find_family(Reader(variable, kTorchrun.source));
  if (!family) return alone(Reader(variable, kTorchrun.source));
  const Reader read(variable, family->source);
  RankEnvironment result;
  result.source =
      read.text("ITHACA_SPAWNED") && family->source == kTorchrun.source ? "ithaca" : family->source;
  result.world_size =
      family->source == kSlurm
          ? slurm_tasks(read)
          : read.required(family->world_size, 1, kMaxRanks, str(family->rank, " is set, so it must be too."));
  result.rank = read.required(family->rank, 0, result.world_size - 1, "");
  read_local(read, *family, result);
  if (result.world_size > 1) read_master(read, result.source, result);
  result.listen_fd = read.number("ITHACA_LISTEN_FD", 0, 1 << 20).value_or(-1);
  const std::string agent = read.text("TORCHELASTIC_USE_AGENT_STORE").value_or("");
  result.agent_store = agent == "True" || agent == "true" || agent == "1";
  result.restart_count = read.number("TORCHELASTIC_RESTART_COUNT", 0, 1 << 30).value_or(0);
  return result;
}

std::string first_slurm_host(const std::string& node_list) {
  std::string host;
  bool inside = false, taking = true;  // taking: the first alternative of a bracket
  for (const char c : node_list) {
    if (c == '[' && !inside) {
      inside = taking = true;
    } else if (c == ']' && inside) {
      inside = false;
    } else if (c == ',' && !inside) {
      break;
    } else if (inside && (c == ',' || c == '-')) {
      taking = false;
    } else if (c == '[' || c == ']') {
      inside = true;
      break;
    } else if (!inside || taking) {
      host += c;
    }
  }
  if (inside || host.empty())
    throw UserError("SLURM_NODELIST is '" + node_list +
                    "', expected a list such as n[003-005,9],gpu1. Set MASTER_ADDR.");
  return host;
}

void write_elastic_error(const std::string& message) {
  const char* path = std::getenv("TORCHELASTIC_ERROR_FILE");
  if (!path || !*path) return;
  Json error;
  error["message"]["message"] = message;
  error["message"]["extraInfo"] = {{"py_callstack", ""}, {"timestamp", std::to_string(std::time(nullptr))}};
  try {
    std::ofstream(path) << error.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } catch (const std::exception&) {
    return;  // the summary on standard error has the message as well
  }
}

}  // namespace ithaca
