// Where an exchange packs its pieces, on a device that is no CPU. What it sends is tested by the schemes that use it.
#include "ithaca/parallel/sequence/exchange.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// Remembers the buffers that it is given; nothing is sent.
class Recorder : public Communicator {
 public:
  Recorder() : Communicator(0, {0, 1}, "recorder") {}
  at::Tensor out, input;

 private:
  void do_broadcast(at::Tensor&, int) override {}
  WorkPtr do_all_reduce(at::Tensor&, ReduceOp) override { return nullptr; }
  WorkPtr do_all_gather(at::Tensor&, const at::Tensor&, const std::vector<int64_t>&) override {
    return nullptr;
  }
  WorkPtr do_reduce_scatter(at::Tensor&, const at::Tensor&, const std::vector<int64_t>&) override {
    return nullptr;
  }
  WorkPtr do_all_to_all(at::Tensor& to, const at::Tensor& from, const std::vector<int64_t>&,
                        const std::vector<int64_t>&) override {
    out = to;
    input = from;
    return std::make_unique<DoneWork>();
  }
  WorkPtr do_send(const at::Tensor&, int, int) override { return nullptr; }
  WorkPtr do_recv(at::Tensor&, int, int) override { return nullptr; }
  void do_barrier() override {}
  std::unique_ptr<Communicator> do_new_group(const std::vector<int>&, const std::string&) override {
    return nullptr;
  }
};

at::Tensor on_meta(int64_t rows) {
  return at::empty({rows, 3}, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
}

TEST(Exchange, PacksOnTheDeviceOfItsPieces) {
  Recorder group;
  Exchange exchange(group);
  exchange.send(1, on_meta(2));
  exchange.receive(1, on_meta(5));
  exchange.run();
  EXPECT_TRUE(group.input.is_meta() && group.out.is_meta());
  EXPECT_EQ(group.input.numel(), 2 * 3 * 4);
  EXPECT_EQ(group.out.numel(), 5 * 3 * 4);
}

// A rank with pieces for itself alone, or with empty ones, still takes part with buffers on its device.
TEST(Exchange, OwnAndEmptyPiecesNameTheDeviceToo) {
  Recorder group;
  Exchange own(group);
  own.send(0, on_meta(2));
  own.receive(0, on_meta(2));
  own.run();
  EXPECT_TRUE(group.input.is_meta() && group.out.is_meta());
  EXPECT_EQ(group.input.numel() + group.out.numel(), 0);
  Exchange empty(group);
  empty.send(1, on_meta(0));
  empty.run();
  EXPECT_TRUE(group.input.is_meta());
}

TEST(Exchange, PiecesOnTwoDevicesAreRefused) {
  Recorder group;
  Exchange exchange(group);
  exchange.send(1, on_meta(2));
  EXPECT_THROW(exchange.receive(1, at::empty({2, 3}, at::kFloat)), Error);
  Exchange none(group);
  EXPECT_THROW(none.run(), Error);
}

}  // namespace
}  // namespace ithaca
