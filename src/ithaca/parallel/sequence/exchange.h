// One all_to_all that carries many strided pieces: pack, exchange, unpack. Pieces of any dtype travel as
// their bytes.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace ithaca {

class Communicator;

class Exchange {
 public:
  explicit Exchange(Communicator& group);

  // Pieces for and from each rank, in the order in which they travel: what rank a sends to b must agree in
  // number, dtype and size with what b receives from a. Views are read and written in run(). Pieces for the
  // own rank are copied, not sent.
  void send(int to, at::Tensor piece);
  void receive(int from, at::Tensor piece);

  // Collective over the group; returns when all received pieces are written.
  void run();

 private:
  Communicator& group_;
  std::vector<std::vector<at::Tensor>> outgoing_, incoming_;  // by rank
};

}  // namespace ithaca
