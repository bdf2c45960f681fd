#include "tests/train/tiny_run.h"

#include "ithaca/base/hash.h"
#include "ithaca/comm/thread_world.h"

namespace fs = std::filesystem;

namespace ithaca::testing_run {

TinyRun::TinyRun() {
  std::string documents;
  for (int i = 0; i < 60; ++i)
    documents += R"({"text": ")" +
                 std::string(static_cast<std::size_t>(i % 7), static_cast<char>('a' + i % 26)) + " and " +
                 std::to_string(i) + "\"}\n";
  folder_.write("docs.jsonl", documents);
}

ExitCode TinyRun::train(const std::string& output, std::vector<std::string> arguments, int ranks) {
  const std::vector<std::string> defaults = {"--model_name_or_path",
                                             path("model"),
                                             "--train_from_scratch",
                                             "--train_file",
                                             path("train.txt"),
                                             "--output_dir",
                                             path(output),
                                             "--cutoff_len",
                                             "31",
                                             "--per_device_train_batch_size",
                                             "2",
                                             "--max_steps",
                                             "6",
                                             "--logging_steps",
                                             "1",
                                             "--save_steps",
                                             "1",
                                             "--learning_rate",
                                             "0.01",
                                             "--cache_dir",
                                             path("cache"),
                                             "--ddp_timeout",
                                             "30",
                                             "--plot_loss",
                                             "false"};
  for (std::string& argument : arguments)
    if (argument == "docs.jsonl") argument = path(argument);
  fs::create_directories(path(output));
  arguments.insert(arguments.begin(), defaults.begin(), defaults.end());
  const ResolvedSettings settings = resolve_settings({}, arguments);
  ExitCode code = kInternal;
  run_thread_ranks(ranks, [&](Communicator& world) {
    RankEnvironment environment;
    environment.rank = environment.local_rank = world.rank();
    environment.world_size = environment.local_world_size = ranks;
    Logger logger(world.rank(), false, path(output) / str("rank_", world.rank(), ".log"));
    const ExitCode mine = ithaca::train({settings, environment, world, logger, stop});
    if (world.rank() == 0) code = mine;
  });
  return code;
}

std::string TinyRun::bits_of_checkpoint(const std::string& output, int64_t step) const {
  const fs::path folder = path(output) / str("checkpoint-", step);
  return sha256_of_file(folder / "model.safetensors") + sha256_of_file(folder / "optimizer.safetensors");
}

std::string TinyRun::log(const std::string& output) const {
  return folder_.read(output + "/rank_0.log");
}

std::string TinyRun::bits_of_weights(const std::string& output) const {
  return sha256_of_file(path(output) / "model.safetensors");
}

}  // namespace ithaca::testing_run
