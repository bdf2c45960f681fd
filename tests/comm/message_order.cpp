#include "tests/comm/message_order.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr int kMessages = 500;

int64_t length_of(int message) {
  return 1 + message * 37 % 911;
}
int64_t content_of(int rank, int message) {
  return 1000 * rank + message;
}

std::vector<int> random_order(unsigned seed) {
  std::vector<int> order(kMessages);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

std::vector<int> reversed() {
  std::vector<int> order(kMessages);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

void check_content(const at::Tensor& received, int from, int message) {
  if (!received.eq(content_of(from, message)).all().item<bool>())
    throw std::runtime_error(str("message ", message, " from rank ", from, " is wrong"));
}

// `tags`: messages of one tag are received in the order in which they were sent, tags in any.
void exchange(Communicator& group, const std::vector<int>& receive, const std::vector<int>& wait, int tags) {
  if (group.rank() > 0) {
    std::vector<at::Tensor> tensors;
    std::vector<WorkPtr> works;
    for (int i = 0; i < kMessages; ++i) {
      tensors.push_back(at::full({length_of(i)}, content_of(group.rank(), i), at::kLong));
      works.push_back(group.async_send(tensors.back(), 0, i % tags));
    }
    for (const int i : wait) works[static_cast<std::size_t>(i)]->wait();
    return;
  }
  std::vector<int> taken(static_cast<std::size_t>(group.size() * tags));
  for (const int i : receive) {
    for (int from = 1; from < group.size(); ++from) {
      const int tag = i % tags;
      const int message = tag + tags * taken[static_cast<std::size_t>(from * tags + tag)]++;
      at::Tensor received = at::zeros({length_of(message)}, at::kLong);
      group.recv(received, from, tag);
      check_content(received, from, message);
    }
  }
}

}  // namespace

void exchange_in_any_order(Communicator& world) {
  std::vector<int> all(static_cast<std::size_t>(world.size()));
  std::iota(all.begin(), all.end(), 0);
  const std::unique_ptr<Communicator> group = world.new_group(all, "again");
  exchange(world, reversed(), random_order(1), kMessages);
  exchange(*group, random_order(2), reversed(), kMessages);
  exchange(world, random_order(3), random_order(4), 7);
  // The group's messages are posted first and taken last.
  std::vector<at::Tensor> early;
  std::vector<WorkPtr> works;
  for (int i = 0; group->rank() > 0 && i < kMessages; ++i) {
    early.push_back(at::full({length_of(i)}, content_of(group->rank(), i), at::kLong));
    works.push_back(group->async_send(early.back(), 0, i));
  }
  exchange(world, reversed(), reversed(), kMessages);
  for (int i = 0; group->rank() == 0 && i < kMessages; ++i) {
    for (int from = 1; from < group->size(); ++from) {
      at::Tensor received = at::zeros({length_of(i)}, at::kLong);
      group->recv(received, from, i);
      check_content(received, from, i);
    }
  }
  for (const WorkPtr& work : works) work->wait();
}

}  // namespace ithaca
