// One all_to_all that carries many strided pieces: pack, exchange, unpack. Pieces of any dtype travel as
// their bytes.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>
#include <vector>

#include "ithaca/comm/communicator.h"

namespace ithaca {

class Exchange {
 public:
  explicit Exchange(Communicator& group);

  // Pieces for and from each rank, in the order in which they travel: what rank a sends to b must agree in
  // number, dtype and size with what b receives from a. Views are read and written in run(). Pieces for the
  // own rank are copied, not sent. All pieces lie on one device, on which they are packed too; a rank that has nothing to
  // send or to receive names it by a piece without elements.
  void send(int to, at::Tensor piece);
  void receive(int from, at::Tensor piece);

  // Collective over the group; returns when all received pieces are written.
  void run();
  // The same in two halves, so that something can be computed in between. The pieces to send may change after
  // start(), those to receive are written by finish().
  void start();
  void finish();

 private:
  Communicator& group_;
  void meet(const at::Tensor& piece);

  std::vector<std::vector<at::Tensor>> outgoing_, incoming_;  // by rank
  std::optional<at::Device> device_;                          // of the pieces
  at::Tensor input_, output_;
  WorkPtr work_;
};

}  // namespace ithaca
