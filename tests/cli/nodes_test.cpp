// Ranks of several machines: of one machine that they take for two (loopback), and of two network namespaces where
// this process may make them.
#include <gmock/gmock.h>
#include <unistd.h>

#include <memory>

#include "tests/cli/tiny_engine.h"

namespace ithaca::testing_program {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Variables node_variables(int node, const std::string& address, const std::string& port) {
  return {{"RANK", std::to_string(node)}, {"LOCAL_RANK", "0"},      {"WORLD_SIZE", "2"},
          {"LOCAL_WORLD_SIZE", "1"},      {"MASTER_ADDR", address}, {"MASTER_PORT", port}};
}

// One rank a node; `prefix` leads into node n. The weights of `bad_node` are spoilt, which is found after the ranks
// have met.
void one_summary_of_a_failure(const std::vector<Words>& prefix, const std::string& address, int bad_node) {
  const TinyFolder folder;
  ASSERT_EQ(run_program(train_words(folder, "good")).code, 0);
  folder.copy("good", "bad");
  folder.write("bad/model.safetensors", "spoilt");
  const std::string port = std::to_string(free_port());
  std::vector<std::unique_ptr<Program>> nodes;
  for (const int node : {0, 1}) {
    Words words = train_words(folder, "out", {"--sequence_parallel_size", "2", "--ddp_timeout", "20"});
    words[3] = folder.path(node == bad_node ? "bad" : "good");
    words.erase(std::find(words.begin(), words.end(), "--train_from_scratch"));
    nodes.push_back(std::make_unique<Program>(prefix[static_cast<std::size_t>(node)] + words,
                                              node_variables(node, address, port)));
  }
  std::string all;
  for (const int node : {0, 1}) {
    const Result result = nodes[static_cast<std::size_t>(node)]->wait(60);
    EXPECT_EQ(result.code, node == bad_node ? 2 : 4) << result.err;
    all += result.err;
  }
  EXPECT_EQ(times(all, "error:"), 1) << all;
  EXPECT_THAT(all, AllOf(HasSubstr("rank " + std::to_string(bad_node) + ": "),
                         HasSubstr("bad/model.safetensors"), Not(HasSubstr("frame #"))));
}

TEST(Nodes, AFailingRankGivesOneSummary) {
  for (const int bad_node : {0, 1}) one_summary_of_a_failure({{}, {}}, "127.0.0.1", bad_node);
}

// Two network namespaces joined by a pair of interfaces; gone with it.
class Namespaces {
 public:
  Namespaces() : name_("ithaca" + std::to_string(getpid())) {
    const std::string a = name_ + "a", b = name_ + "b", in_a = "ip netns exec " + a + " ";
    made_ = getuid() == 0 &&
            shell("ip netns add " + a + " && ip netns add " + b + " && ip -n " + a +
                  " link add ith0 type veth peer name ith1 netns " + b + " && ip -n " + a +
                  " addr add 10.77.0.1/24 dev ith0 && ip -n " + b +
                  " addr add 10.77.0.2/24 dev ith1 && ip -n " + a + " link set ith0 up && ip -n " + b +
                  " link set ith1 up && ip -n " + a + " link set lo up && ip -n " + b + " link set lo up");
  }
  ~Namespaces() {
    for (const char* side : {"a", "b"}) shell("ip netns del " + name_ + side);
  }
  bool made() const { return made_; }
  std::vector<Words> prefix() const {
    return {{"/bin/sh", "-c", "exec ip netns exec " + name_ + "a \"$@\"", "sh"},
            {"/bin/sh", "-c", "exec ip netns exec " + name_ + "b \"$@\"", "sh"}};
  }

 private:
  static bool shell(const std::string& command) { return run_program({"/bin/sh", "-c", command}).code == 0; }
  std::string name_;
  bool made_ = false;
};

TEST(Nodes, TwoNetworkNamespacesTrainAndFailAsOneRun) {
  const Namespaces namespaces;
  if (!namespaces.made()) GTEST_SKIP() << "no network namespace can be made here (root, and the program ip)";
  const TinyFolder folder;
  ASSERT_EQ(run_program(train_words(folder, "alone")).code, 0);
  const std::string port = std::to_string(free_port());
  const Words words = train_words(folder, "out", {"--sequence_parallel_size", "2"});
  Program first(namespaces.prefix()[0] + words, node_variables(0, "10.77.0.1", port)),
      second(namespaces.prefix()[1] + words, node_variables(1, "10.77.0.1", port));
  const Result zero = first.wait(60), one = second.wait(60);
  ASSERT_EQ(zero.code, 0) << zero.err;
  ASSERT_EQ(one.code, 0) << one.err;
  EXPECT_THAT(folder.read("out/logs/rank_1.log"), HasSubstr("Gloo on 10.77.0.2"));
  const std::vector<double> expected = losses(folder, "alone"), found = losses(folder, "out");
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t step = 0; step < found.size(); ++step) EXPECT_NEAR(found[step], expected[step], 1e-4);
  for (const int bad_node : {0, 1}) one_summary_of_a_failure(namespaces.prefix(), "10.77.0.1", bad_node);
}

}  // namespace
}  // namespace ithaca::testing_program
