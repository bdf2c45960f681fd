#include "ithaca/parallel/sequence/exchange.h"

#include <ATen/ops/empty.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

int64_t bytes_of(const std::vector<at::Tensor>& pieces) {
  int64_t bytes = 0;
  for (const at::Tensor& piece : pieces) bytes += static_cast<int64_t>(piece.nbytes());
  return bytes;
}

// The bytes [offset, offset + piece's size) of `buffer`, seen with the piece's dtype and shape, or an
// undefined tensor where the dtype does not allow that offset (float32 pieces behind an odd number of bf16
// ones).
at::Tensor typed_view(const at::Tensor& buffer, int64_t offset, const at::Tensor& piece) {
  if (offset % piece.element_size() != 0) return {};
  return buffer.narrow(0, offset, static_cast<int64_t>(piece.nbytes()))
      .view(piece.scalar_type())
      .view(piece.sizes());
}

void pack(const at::Tensor& buffer, int64_t offset, const at::Tensor& piece) {
  if (piece.numel() == 0) return;
  if (const at::Tensor view = typed_view(buffer, offset, piece); view.defined()) {
    view.copy_(piece);
  } else {
    const at::Tensor bytes = piece.contiguous().view(-1).view(at::kByte);
    buffer.narrow(0, offset, bytes.size(0)).copy_(bytes);
  }
}

void unpack(const at::Tensor& buffer, int64_t offset, at::Tensor& piece) {
  if (piece.numel() == 0) return;
  if (const at::Tensor view = typed_view(buffer, offset, piece); view.defined()) {
    piece.copy_(view);
  } else {
    const at::Tensor bytes = buffer.narrow(0, offset, static_cast<int64_t>(piece.nbytes())).clone();
    piece.copy_(bytes.view(piece.scalar_type()).view(piece.sizes()));
  }
}

}  // namespace

Exchange::Exchange(Communicator& group) : group_(group), outgoing_(group.size()), incoming_(group.size()) {}

void Exchange::meet(const at::Tensor& piece) {
  if (!device_) device_ = piece.device();
  ITHACA_CHECK(*device_ == piece.device(), "a piece on ", piece.device(), " among pieces on ", *device_);
}

void Exchange::send(int to, at::Tensor piece) {
  meet(piece);
  outgoing_[to].push_back(std::move(piece));
}
void Exchange::receive(int from, at::Tensor piece) {
  meet(piece);
  incoming_[from].push_back(std::move(piece));
}

void Exchange::run() {
  start();
  finish();
}

void Exchange::start() {
  const int self = group_.rank();
  ITHACA_CHECK(outgoing_[self].size() == incoming_[self].size());
  for (std::size_t i = 0; i < incoming_[self].size(); ++i) incoming_[self][i].copy_(outgoing_[self][i]);
  outgoing_[self].clear();
  incoming_[self].clear();

  std::vector<int64_t> in_counts, out_counts;
  int64_t in_bytes = 0, out_bytes = 0;
  for (int j = 0; j < group_.size(); ++j) {
    in_counts.push_back(bytes_of(outgoing_[j]));
    out_counts.push_back(bytes_of(incoming_[j]));
    in_bytes += in_counts.back();
    out_bytes += out_counts.back();
  }
  ITHACA_CHECK(device_, "an exchange without a piece");
  const auto options = at::TensorOptions().dtype(at::kByte).device(*device_);
  input_ = at::empty({in_bytes}, options);
  output_ = at::empty({out_bytes}, options);
  int64_t offset = 0;
  for (const std::vector<at::Tensor>& pieces : outgoing_)
    for (const at::Tensor& piece : pieces) {
      pack(input_, offset, piece);
      offset += static_cast<int64_t>(piece.nbytes());
    }
  outgoing_.clear();
  work_ = group_.async_all_to_all(output_, input_, out_counts, in_counts);
}

void Exchange::finish() {
  work_->wait();
  input_.reset();
  int64_t offset = 0;
  for (std::vector<at::Tensor>& pieces : incoming_)
    for (at::Tensor& piece : pieces) {
      unpack(output_, offset, piece);
      offset += static_cast<int64_t>(piece.nbytes());
    }
  output_.reset();
}

}  // namespace ithaca
