// How much of a slow network the methods hide behind attention. Thread ranks run over a Communicator that writes down
// when each message is posted and waited for, in processor time of the rank's thread; then the same sequence is played
// on a pretended network where every byte takes its time and a rank's messages leave one after another. Each stretch
// of work is the shortest of several runs and of all ranks (they work alike here), so a busy machine changes little.
// Bandwidth is chosen so that the largest message takes 0.4 of the attention beside it.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <ctime>
#include <map>
#include <optional>

#include "ithaca/base/error.h"
#include "ithaca/comm/thread_world.h"
#include "ithaca/parallel/sequence/layout.h"
#include "tests/parity/sequence_case.h"

namespace ithaca {
namespace {

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Event {
  enum class Kind { kSend, kRecv, kAllToAll, kWait };
  Kind kind;
  int peer = 0, tag = 0;   // kAllToAll: tag is its number
  int64_t bytes = 0;       // that leave
  std::size_t posted = 0;  // kWait: the index of the event that it waits for
  double work = 0;         // seconds since the event before
};

// Of one rank and pass.
class Recorder {
 public:
  std::size_t add(Event event) {
    const double now = thread_seconds();
    event.work = now - last_;
    events.push_back(event);
    last_ = thread_seconds();
    return events.size() - 1;
  }
  std::vector<Event> events;

 private:
  double last_ = thread_seconds();
};

class RecordingCommunicator : public Communicator {
 public:
  RecordingCommunicator(Communicator& inner)
      : Communicator(inner.rank(), inner.ranks(), "recording"), inner_(inner) {}
  void record(Recorder& recorder) { recorder_ = &recorder; }

 protected:
  struct RecordingWork : Work {
    RecordingWork(WorkPtr inner, Recorder& recorder, std::size_t posted)
        : inner(std::move(inner)), recorder(recorder), posted(posted) {}
    void wait() override {
      inner->wait();
      recorder.add({.kind = Event::Kind::kWait, .posted = posted});
    }
    WorkPtr inner;
    Recorder& recorder;
    std::size_t posted;
  };

  WorkPtr do_send(const at::Tensor& tensor, int to, int tag) override {
    return post(
        inner_.async_send(tensor, to, tag),
        {.kind = Event::Kind::kSend, .peer = to, .tag = tag, .bytes = static_cast<int64_t>(tensor.nbytes())});
  }
  WorkPtr do_recv(at::Tensor& tensor, int from, int tag) override {
    return post(inner_.async_recv(tensor, from, tag), {.kind = Event::Kind::kRecv, .peer = from, .tag = tag});
  }
  WorkPtr do_all_to_all(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& out_counts,
                        const std::vector<int64_t>& in_counts) override {
    return post(
        inner_.async_all_to_all(out, input, out_counts, in_counts),
        {.kind = Event::Kind::kAllToAll, .tag = rounds_++, .bytes = static_cast<int64_t>(input.nbytes())});
  }
  void do_broadcast(at::Tensor&, int) override { unused(); }
  WorkPtr do_all_reduce(at::Tensor&, ReduceOp) override { unused(); }
  WorkPtr do_all_gather(at::Tensor&, const at::Tensor&, const std::vector<int64_t>&) override { unused(); }
  WorkPtr do_reduce_scatter(at::Tensor&, const at::Tensor&, const std::vector<int64_t>&) override {
    unused();
  }
  void do_barrier() override { unused(); }
  std::unique_ptr<Communicator> do_new_group(const std::vector<int>&, const std::string&) override {
    unused();
  }

 private:
  [[noreturn]] static void unused() { throw std::logic_error("not used by attention"); }
  WorkPtr post(WorkPtr inner, const Event& event) {
    const std::size_t posted = recorder_->add(event);
    return std::make_unique<RecordingWork>(std::move(inner), *recorder_, posted);
  }

  Communicator& inner_;
  Recorder* recorder_ = nullptr;
  int rounds_ = 0;
};

using Recording = std::vector<std::vector<Event>>;  // by rank

// The forward and the backward pass of one call.
std::array<Recording, 2> record(int ranks, int ulysses, const SequenceAttentionOptions& options,
                                const ShapeCase& shape) {
  const AttentionPattern pattern = shape.pattern(1);
  const Inputs in = random_inputs(shape, 1);
  std::array<Recording, 2> passes = {Recording(ranks), Recording(ranks)};
  run_thread_ranks(ranks, [&](Communicator& world) {
    const SequenceLayout layout({ulysses, ranks / ulysses, false}, pattern, shape.batch, shape.length);
    const auto mine = [&](const at::Tensor& t) { return shard(t, layout, world.rank()).to(at::kFloat); };
    const at::Tensor q = mine(in.q).requires_grad_(true), k = mine(in.k).requires_grad_(true),
                     v = mine(in.v).requires_grad_(true), dout = mine(in.dout);
    RecordingCommunicator recording(world);
    const std::unique_ptr<Communicator> alone = single_rank_world();
    const AttentionCore core =
        ulysses > 1 ? sequence_attention(recording, *alone, options) : ring_attention(recording, options);
    Recorder forward;
    recording.record(forward);
    const at::Tensor out = core(q, k, v, HeadRange::all(shape.heads, shape.kv_heads), pattern);
    Recorder backward;
    recording.record(backward);
    torch::autograd::backward({out}, {dout});
    passes[0][world.rank()] = forward.events;
    passes[1][world.rank()] = backward.events;
  });
  return passes;
}

// Each stretch of work becomes the shortest of it; the sequence of events is the same on all ranks.
void take_shortest(Recording& pass, const Recording& other) {
  for (std::size_t i = 0; i < pass[0].size(); ++i) {
    double shortest = pass[0][i].work;
    for (const Recording* recording : std::initializer_list<const Recording*>{&pass, &other})
      for (const std::vector<Event>& rank : *recording) {
        ASSERT_EQ(rank.size(), pass[0].size());
        ASSERT_EQ(rank[i].kind, pass[0][i].kind);
        shortest = std::min(shortest, rank[i].work);
      }
    for (std::vector<Event>& rank : pass) rank[i].work = shortest;
  }
}

// Plays a recording on a network; the longest time that a rank waits for messages.
class Player {
 public:
  // Messages between ranks of different nodes of `node` ranks (0: one node) take `far` times as long.
  Player(const Recording& recording, double seconds_a_byte, int node = 0, double far = 1)
      : recording_(recording),
        seconds_a_byte_(seconds_a_byte),
        node_(node),
        far_(far),
        ranks_(recording.size()) {
    bool going = true;
    while (going) {
      going = false;
      for (std::size_t r = 0; r < ranks_.size(); ++r)
        while (ranks_[r].next < recording_[r].size() && step(r)) going = true;
    }
  }
  double exposed() const {
    double most = 0;
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      EXPECT_EQ(ranks_[r].next, recording_[r].size()) << "rank " << r << " waits for ever";
      most = std::max(most, ranks_[r].waited);
    }
    return most;
  }

 private:
  struct Rank {
    std::size_t next = 0;
    double now = 0, waited = 0, link_free = 0;
    std::map<std::size_t, double> sent;  // by event: when it has left
  };
  using Message = std::tuple<int, int, int>;  // from, to, tag

  double leaves(Rank& rank, double from, int64_t bytes, double times) const {
    rank.link_free = std::max(from, rank.link_free) + times * seconds_a_byte_ * static_cast<double>(bytes);
    return rank.link_free;
  }

  bool step(std::size_t r) {
    Rank& rank = ranks_[r];
    const Event& event = recording_[r][rank.next];
    const double now = rank.now + event.work;
    double until = now;
    if (event.kind == Event::Kind::kSend) {
      const bool is_far = node_ > 0 && static_cast<int>(r) / node_ != event.peer / node_;
      rank.sent[rank.next] = leaves(rank, now, event.bytes, is_far ? far_ : 1);
      arrivals_[{static_cast<int>(r), event.peer, event.tag}] = rank.sent[rank.next];
    } else if (event.kind == Event::Kind::kAllToAll) {
      std::vector<std::pair<std::size_t, double>>& posts = rounds_[event.tag];
      posts.emplace_back(r, now);
      if (posts.size() == ranks_.size()) finish_round(event.tag, event.bytes);
    } else if (event.kind == Event::Kind::kWait) {
      const std::optional<double> done = done_at(r, event.posted);
      if (!done) return false;
      until = std::max(now, *done);
    }
    rank.waited += until - now;
    rank.now = until;
    rank.next += 1;
    return true;
  }

  void finish_round(int round, int64_t bytes) {
    double start = 0;
    for (const auto& [r, posted] : rounds_[round]) start = std::max(start, posted);
    for (const auto& [r, posted] : rounds_[round])
      round_ends_[round] = std::max(round_ends_[round], leaves(ranks_[r], start, bytes, 1));
  }

  std::optional<double> done_at(std::size_t r, std::size_t posted) const {
    const Event& event = recording_[r][posted];
    if (event.kind == Event::Kind::kSend) return ranks_[r].sent.at(posted);
    if (event.kind == Event::Kind::kAllToAll) {
      const auto end = round_ends_.find(event.tag);
      return end == round_ends_.end() ? std::nullopt : std::optional(end->second);
    }
    const auto arrival = arrivals_.find({event.peer, static_cast<int>(r), event.tag});
    return arrival == arrivals_.end() ? std::nullopt : std::optional(arrival->second);
  }

  const Recording& recording_;
  double seconds_a_byte_;
  int node_;
  double far_;
  std::vector<Rank> ranks_;
  std::map<Message, double> arrivals_;
  std::map<int, std::vector<std::pair<std::size_t, double>>> rounds_;
  std::map<int, double> round_ends_;
};

constexpr double kHidden = 0.8;  // of what the schedule allows to hide
constexpr int kRuns = 5;

// What one pass sends one after another, in units of `bytes`; `open` of them have no attention beside them. The
// largest message is `largest` units and runs beside one of `parts` equal parts of the attention.
struct Schedule {
  const char* name;
  int64_t bytes;
  int units, open, largest, parts;
};

void expect_hidden(const Recording& pass, const Schedule& schedule) {
  double work = 0;
  for (const Event& event : pass[0]) work += event.work;
  const double unit = 0.4 * work / schedule.parts / schedule.largest;
  const double exposed =
      Player(pass, unit / static_cast<double>(schedule.bytes)).exposed() - unit * schedule.open;
  const double hidden = 1 - std::max(0.0, exposed) / (unit * (schedule.units - schedule.open));
  std::printf("%s: %.0f %% of what can be hidden is\n", schedule.name, 100 * hidden);
  EXPECT_GE(hidden, kHidden) << schedule.name;
}

std::array<Recording, 2> shortest_of_runs(int ranks, int ulysses, const SequenceAttentionOptions& options,
                                          const ShapeCase& shape) {
  std::array<Recording, 2> passes = record(ranks, ulysses, options, shape);
  for (int i = 1; i < kRuns; ++i) {
    const std::array<Recording, 2> again = record(ranks, ulysses, options, shape);
    for (const int pass : {0, 1}) take_shortest(passes[pass], again[pass]);
  }
  return passes;
}

TEST(Overlap, RingHidesItsHops) {
  ShapeCase shape = {.heads = 4, .kv_heads = 4, .head_dim = 64, .length = 1024};
  shape.causal = false;
  constexpr int kRanks = 4;
  const auto passes = shortest_of_runs(kRanks, 1, {.backend = AttentionBackend::kIthaca}, shape);
  const int64_t block = 2 * shape.kv_heads * shape.head_dim * 4 * shape.length / kRanks;  // K and V, float32
  expect_hidden(passes[0], {"ring forward", block, kRanks - 1, 0, 1, kRanks});
  // K and V, then dK and dV: the hop home has nothing behind it.
  expect_hidden(passes[1], {"ring backward", block, 2 * (kRanks - 1), 1, 1, kRanks});
}

// Two nodes of two ranks, a message between them longer than the attention beside one step of a single ring: the
// double ring starts it an inner ring ahead.
TEST(Overlap, DoubleRingHidesASlowNetworkBetweenNodes) {
  ShapeCase shape = {.heads = 4, .kv_heads = 4, .head_dim = 64, .length = 1024};
  shape.causal = false;
  constexpr int kRanks = 4, kNode = 2;
  const int64_t block = 2 * shape.kv_heads * shape.head_dim * 4 * shape.length / kRanks;
  double exposed[2], step = 0;
  for (const int window : {1, kNode}) {
    const Recording pass = shortest_of_runs(
        kRanks, 1, {.backend = AttentionBackend::kIthaca, .cp_window_size = window}, shape)[0];
    double work = 0;
    for (const Event& event : pass[0]) work += event.work;
    step = work / kRanks;
    exposed[window - 1] = Player(pass, 0.3 * step / static_cast<double>(block), kNode, 5).exposed() / step;
  }
  std::printf("exposed, in steps: single ring %.2f, double ring %.2f\n", exposed[0], exposed[1]);
  EXPECT_GT(exposed[0], 0.4);
  EXPECT_LT(exposed[1], 0.2 * exposed[0]);
}

TEST(Overlap, UlyssesHidesAllChunksButTheEnds) {
  const ShapeCase shape = {.heads = 8, .kv_heads = 8, .head_dim = 64, .length = 1024};
  constexpr int kRanks = 2, kChunks = 4;
  const auto passes = shortest_of_runs(
      kRanks, kRanks, {.backend = AttentionBackend::kIthaca, .ulysses_chunks = kChunks}, shape);
  // A unit is one tensor of one chunk: three in and one out, backward one in and three out. The first arrival and
  // the last departure are waited for.
  const int64_t unit = shape.head_dim * 4 * shape.length / kRanks * (shape.heads / kRanks / kChunks);
  expect_hidden(passes[0], {"ulysses forward", unit, 4 * kChunks, 4, 3, kChunks});
  expect_hidden(passes[1], {"ulysses backward", unit, 4 * kChunks, 4, 3, kChunks});
  // The player sees what is not hidden: one chunk waits for all of its messages.
  const auto whole = shortest_of_runs(kRanks, kRanks, {.backend = AttentionBackend::kIthaca}, shape);
  for (const Recording& pass : whole) {
    const double seconds = 1e-6 * static_cast<double>(unit * kChunks);
    EXPECT_NEAR(Player(pass, 1e-6).exposed(), 4 * seconds, 0.01 * seconds);
  }
}

}  // namespace
}  // namespace ithaca
