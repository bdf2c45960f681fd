// `ithaca`: the front program. It does not load libtorch, so that help, check, list-cfg, tokenize and every
// refusal answer at once; train, eval and generate go on in `ithaca-engine`, which lies beside it.
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <utility>

#include "cli/commands.h"
#include "cli/convert.h"
#include "cli/standard_output.h"
#include "cli/tokenize.h"
#include "ithaca/base/error.h"

namespace ithaca {
namespace {

struct Command {
  std::string_view name;
  std::function<int(const Words&)> run;
};

std::vector<Command> commands() {
  const auto engine = [](const char* name) {
    return [name](const Words& words) { return run_engine(name, words); };
  };
  return {{"train", engine("train")}, {"eval", engine("eval")},   {"generate", engine("generate")},
          {"tokenize", run_tokenize}, {"convert", run_convert},   {"check", run_check},
          {"env", run_env},           {"list-cfg", run_list_cfg}, {"copy-cfg", run_copy_cfg},
          {"help", run_help}};
}

int dispatch(const Words& words) {
  if (words.empty() || words.front() == "--help" || words.front() == "-h") return run_help({});
  if (words.front() == "--version") return run_help({"version"});
  for (const Command& command : commands()) {
    if (command.name != words.front()) continue;
    const Words rest(words.begin() + 1, words.end());
    for (const std::string& word : rest)
      if (word == "--help" || word == "-h") return run_help({words.front()});
    return command.run(rest);
  }
  std::string known;
  for (const Command& command : commands()) known += str(known.empty() ? "" : ", ", command.name);
  throw UserError(
      str(words.front(), " is no command; expected one of ", known, " (`ithaca help` explains them)"));
}

}  // namespace
}  // namespace ithaca

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of that write
  int code = ithaca::kInternal;
  std::string message;
  try {
    code = ithaca::dispatch(ithaca::Words(argv + 1, argv + argc));
    ithaca::finish_standard_output();
    return code;
  } catch (const ithaca::Error& error) {
    code = error.code();
    message = error.what();
  } catch (const std::exception& error) {
    message = error.what();
  }
  std::fprintf(stderr, "ithaca: error: %s\n", message.c_str());
  return code;
}
