// Argument checks, traffic and groups of one: what all backends share.
#include "ithaca/comm/communicator.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/comm/cost.h"
#include "ithaca/comm/rows.h"

namespace ithaca {
namespace {

WorkPtr done() {
  return std::make_unique<DoneWork>();
}

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  if (a.nbytes() == 0 || b.nbytes() == 0 || a.device() != b.device() || a.is_meta()) return false;
  const auto* a_begin = static_cast<const char*>(a.const_data_ptr());
  const auto* b_begin = static_cast<const char*>(b.const_data_ptr());
  return a_begin < b_begin + b.nbytes() && b_begin < a_begin + a.nbytes();
}

// The checks of one call; errors name the verb, the group and the values.
class Check {
 public:
  Check(const char* verb, const Communicator& group) : verb_(verb), group_(group) {}

  template <class... Parts>
  void that(bool condition, const Parts&... parts) const {
    if (condition) return;
    throw Error(kInternal, ithaca::str("[", verb_, "] group ", group_.name(), " of ", group_.size(),
                                       ", rank ", group_.rank(), ": ", parts...));
  }
  void tensor(const at::Tensor& tensor, const char* name) const {
    that(tensor.defined(), name, " is undefined");
    that(tensor.is_contiguous(), name, " is not contiguous: sizes ", tensor.sizes(), ", strides ",
         tensor.strides());
  }
  void peer(int rank, const char* name) const {
    that(rank >= 0 && rank < group_.size(), name, " is ", rank, ", expected 0 to ", group_.size() - 1);
  }
  // Rows on dim 0, everything behind it alike.
  void pair(const at::Tensor& out, const at::Tensor& input) const {
    alike(out, input);
    that(!overlap(out, input), "out and input overlap in memory");
  }
  // `part` may be rows of `whole` itself: those from row `begin` on, exactly.
  void pair_or_in_place(const at::Tensor& whole, const at::Tensor& part, int64_t begin) const {
    const bool in_place =
        part.const_data_ptr() == static_cast<const char*>(whole.const_data_ptr()) + begin * row_bytes(whole);
    that(in_place || !overlap(whole, part), "out and input overlap in memory without being in place");
  }
  void alike(const at::Tensor& out, const at::Tensor& input) const {
    tensor(out, "out");
    tensor(input, "input");
    that(out.scalar_type() == input.scalar_type(), "out is ", c10::toString(out.scalar_type()), ", input is ",
         c10::toString(input.scalar_type()));
    that(out.device() == input.device(), "out is on ", out.device().str(), ", input is on ",
         input.device().str());
    that(out.dim() >= 1 && out.dim() == input.dim() && out.sizes().slice(1) == input.sizes().slice(1),
         "the sizes after dim 0 differ: out ", out.sizes(), ", input ", input.sizes());
  }
  void counts(const std::vector<int64_t>& counts, const char* name) const {
    that(static_cast<int>(counts.size()) == group_.size(), name, " has ", counts.size(),
         " entries: ", Listed{counts});
    that(std::all_of(counts.begin(), counts.end(), [](int64_t count) { return count >= 0; }), name,
         " has a negative entry: ", Listed{counts});
  }
  void rows(const at::Tensor& tensor, const char* name, int64_t expected,
            const std::vector<int64_t>& counts) const {
    that(tensor.size(0) == expected, name, " has ", tensor.size(0), " rows, expected ", expected,
         " by the counts ", Listed{counts});
  }

 private:
  const char* verb_;
  const Communicator& group_;
};

void copy(at::Tensor& out, const at::Tensor& input) {
  if (out.const_data_ptr() == input.const_data_ptr()) return;  // in place
  const at::NoGradGuard no_grad;
  out.copy_(input);
}

}  // namespace

void Communicator::broadcast(at::Tensor& tensor, int root) {
  const Check check("broadcast", *this);
  check.tensor(tensor, "tensor");
  check.peer(root, "root");
  if (size() == 1) return;
  traffic_.add(Verb::kBroadcast,
               broadcast_cost(size(), rank_, root, static_cast<int64_t>(tensor.nbytes())).bytes);
  do_broadcast(tensor, root);
}

void Communicator::all_reduce(at::Tensor& tensor, ReduceOp op) {
  async_all_reduce(tensor, op)->wait();
}

WorkPtr Communicator::async_all_reduce(at::Tensor& tensor, ReduceOp op) {
  const Check check("all_reduce", *this);
  check.tensor(tensor, "tensor");
  if (size() == 1) return done();
  traffic_.add(
      Verb::kAllReduce,
      all_reduce_cost(size(), rank_, tensor.numel(), static_cast<int64_t>(tensor.element_size())).bytes);
  return do_all_reduce(tensor, op);
}

void Communicator::all_gather(at::Tensor& out, const at::Tensor& input, const std::vector<int64_t>& counts) {
  async_all_gather(out, input, counts)->wait();
}

WorkPtr Communicator::async_all_gather(at::Tensor& out, const at::Tensor& input,
                                       const std::vector<int64_t>& counts) {
  const Check check("all_gather", *this);
  check.alike(out, input);
  const std::vector<int64_t> all =
      counts.empty() ? std::vector<int64_t>(ranks_.size(), input.size(0)) : counts;
  check.counts(all, "counts");
  check.rows(input, "input", all[static_cast<std::size_t>(rank_)], all);
  check.rows(out, "out", sum_of(all), all);
  check.pair_or_in_place(out, input, rows_before(all, static_cast<std::size_t>(rank_)));
  if (size() == 1) return copy(out, input), done();
  traffic_.add(Verb::kAllGather, all_gather_cost(all, rank_, row_bytes(input)).bytes);
  return do_all_gather(out, input, all);
}

void Communicator::reduce_scatter(at::Tensor& out, const at::Tensor& input,
                                  const std::vector<int64_t>& counts) {
  async_reduce_scatter(out, input, counts)->wait();
}

WorkPtr Communicator::async_reduce_scatter(at::Tensor& out, const at::Tensor& input,
                                           const std::vector<int64_t>& counts) {
  const Check check("reduce_scatter", *this);
  check.alike(out, input);
  check.that(!counts.empty() || input.size(0) % size() == 0, "input has ", input.size(0),
             " rows, which the group does not divide: give counts");
  const std::vector<int64_t> all =
      counts.empty() ? std::vector<int64_t>(ranks_.size(), input.size(0) / size()) : counts;
  check.counts(all, "counts");
  check.rows(input, "input", sum_of(all), all);
  check.rows(out, "out", all[static_cast<std::size_t>(rank_)], all);
  check.pair_or_in_place(input, out, rows_before(all, static_cast<std::size_t>(rank_)));
  if (size() == 1) return copy(out, input), done();
  traffic_.add(Verb::kReduceScatter, reduce_scatter_cost(all, rank_, row_bytes(input)).bytes);
  return do_reduce_scatter(out, input, all);
}

void Communicator::all_to_all(at::Tensor& out, const at::Tensor& input,
                              const std::vector<int64_t>& out_counts, const std::vector<int64_t>& in_counts) {
  async_all_to_all(out, input, out_counts, in_counts)->wait();
}

WorkPtr Communicator::async_all_to_all(at::Tensor& out, const at::Tensor& input,
                                       const std::vector<int64_t>& out_counts,
                                       const std::vector<int64_t>& in_counts) {
  const Check check("all_to_all", *this);
  check.pair(out, input);
  check.counts(out_counts, "out_counts");
  check.counts(in_counts, "in_counts");
  check.rows(out, "out", sum_of(out_counts), out_counts);
  check.rows(input, "input", sum_of(in_counts), in_counts);
  const auto own = static_cast<std::size_t>(rank_);
  check.that(out_counts[own] == in_counts[own], "rank ", rank_, " sends itself ", in_counts[own],
             " rows and expects ", out_counts[own]);
  if (size() == 1) return copy(out, input), done();
  traffic_.add(Verb::kAllToAll, all_to_all_cost(in_counts, rank_, row_bytes(input)).bytes);
  return do_all_to_all(out, input, out_counts, in_counts);
}

void Communicator::send(const at::Tensor& tensor, int to, int tag) {
  async_send(tensor, to, tag)->wait();
}

WorkPtr Communicator::async_send(const at::Tensor& tensor, int to, int tag) {
  const Check check("send", *this);
  check.tensor(tensor, "tensor");
  check.peer(to, "to");
  check.that(to != rank_, "a rank cannot send to itself");
  check.that(tag >= 0 && tag < kMaxTag, "tag is ", tag, ", expected 0 to ", kMaxTag - 1);
  traffic_.add(Verb::kSend, static_cast<int64_t>(tensor.nbytes()));
  return do_send(tensor, to, tag);
}

void Communicator::recv(at::Tensor& tensor, int from, int tag) {
  async_recv(tensor, from, tag)->wait();
}

WorkPtr Communicator::async_recv(at::Tensor& tensor, int from, int tag) {
  const Check check("recv", *this);
  check.tensor(tensor, "tensor");
  check.peer(from, "from");
  check.that(from != rank_, "a rank cannot receive from itself");
  check.that(tag >= 0 && tag < kMaxTag, "tag is ", tag, ", expected 0 to ", kMaxTag - 1);
  return do_recv(tensor, from, tag);
}

void Communicator::barrier() {
  if (size() > 1) do_barrier();
}

std::unique_ptr<Communicator> Communicator::new_group(const std::vector<int>& group_ranks,
                                                      const std::string& name) {
  const Check check("new_group", *this);
  check.that(!group_ranks.empty(), "group ", name, " has no ranks");
  for (std::size_t i = 0; i < group_ranks.size(); ++i) {
    check.peer(group_ranks[i], "a rank of the new group");
    check.that(std::count(group_ranks.begin(), group_ranks.end(), group_ranks[i]) == 1, "rank ",
               group_ranks[i], " occurs twice in group ", name);
  }
  return do_new_group(group_ranks, name);
}

}  // namespace ithaca
