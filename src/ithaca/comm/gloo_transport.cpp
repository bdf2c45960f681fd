#include "ithaca/comm/gloo_transport.h"

#include <ATen/ops/from_blob.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace ithaca {
namespace {

class GlooMessage : public Message {
 public:
  GlooMessage(c10::intrusive_ptr<c10d::Work> work, std::chrono::milliseconds timeout)
      : work_(std::move(work)), timeout_(timeout) {}
  void wait() override { work_->wait(timeout_); }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  std::chrono::milliseconds timeout_;
};

class GlooTransport : public MessageTransport {
 public:
  GlooTransport(c10::intrusive_ptr<c10d::Store> store, std::shared_ptr<gloo::transport::Device> device,
                std::chrono::milliseconds timeout, int rank, int size)
      : store_(std::move(store)), device_(std::move(device)), timeout_(timeout) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout_);
    options->devices.push_back(device_);
    options->threads = 1;
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, rank, size, options);
  }

  std::unique_ptr<Message> send(const char* data, int64_t bytes, int to, int tag) override {
    std::vector<at::Tensor> tensors = {at::from_blob(const_cast<char*>(data), {bytes}, at::kByte)};
    return std::make_unique<GlooMessage>(group_->send(tensors, to, tag), timeout_);
  }
  std::unique_ptr<Message> recv(char* data, int64_t bytes, int from, int tag) override {
    std::vector<at::Tensor> tensors = {at::from_blob(data, {bytes}, at::kByte)};
    return std::make_unique<GlooMessage>(group_->recv(tensors, from, tag), timeout_);
  }
  std::unique_ptr<MessageTransport> subgroup(const std::vector<int>& ranks, int own,
                                             const std::string& name) override {
    return std::make_unique<GlooTransport>(c10::make_intrusive<c10d::PrefixStore>(name, store_), device_,
                                           timeout_, own, static_cast<int>(ranks.size()));
  }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::chrono::milliseconds timeout_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

std::unique_ptr<MessageTransport> gloo_transport(c10::intrusive_ptr<c10d::Store> store,
                                                 const std::string& address,
                                                 std::chrono::milliseconds timeout, int rank, int size) {
  return std::make_unique<GlooTransport>(
      std::move(store), c10d::ProcessGroupGloo::createDeviceForHostname(address), timeout, rank, size);
}

}  // namespace ithaca
