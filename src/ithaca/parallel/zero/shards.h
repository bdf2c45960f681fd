// Gradients summed, and the optimizer's work shared out, over the ranks that hold the same weights (ZeRO stage
// 1, Rajbhandari et al. 2020, arXiv 1910.02054, section 5.1). Weights and gradients lie in two flat buffers in
// the same order; rank r owns the r-th of equal parts of both, keeps masters and moments of that part only,
// updates it, and gathers the others'. The maths is that of every rank updating everything.
// Bytes sent by one of n ranks for G elements: (n - 1) / n * G * (opmath + element bytes).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ithaca/nn/parameter.h"
#include "ithaca/optim/optimizer.h"

namespace ithaca {

class Communicator;

// One tensor of the optimizer's state of one parameter.
struct StateSlot {
  std::string name;            // "exp_avg.model.norm.weight"
  std::vector<int64_t> sizes;  // of the whole
  at::ScalarType dtype = at::kFloat;
  int64_t begin = 0;  // of this rank's part, in elements, row-major
  at::Tensor part;    // 1-D, live; undefined where this rank has none
};

class ParameterShards {
 public:
  // Moves the values of the trainable parameters into one flat buffer and gives them gradient buffers in
  // another (zero). `group` and the parameters outlive this object. `return_gradients`: cleared gradients cost
  // no memory until a backward writes them. That lowers the peak where activations are recomputed, and only
  // costs time where they are not (bench/results).
  ParameterShards(const ParameterList& parameters, Communicator& group, bool return_gradients = false);

  // The pieces of this rank's part, 1-D, by parameter: for the Optimizer. Weight decay on matrices only (not
  // on norms and biases), as transformers.
  std::vector<OptimizerEntry> entries() const;

  // Own part of the gradients = sum over the group; the rest is left as it was. Collective.
  void reduce_gradients();
  // Of the own part: the group's is the sum over ranks.
  double sum_of_squares() const;
  void scale_gradients(double factor);  // own part
  // Everybody's part of the values, here. Collective.
  void gather_values();
  void clear_gradients();  // all
  // Bytes this rank sends for reduce_gradients and gather_values.
  int64_t step_bytes() const;

  // All of the optimizer's state, every parameter, in the same order on every rank. `optimizer` was made from
  // entries().
  std::vector<StateSlot> state_slots(const Optimizer& optimizer) const;
  // On rank 0 of the group: runs `use`, which asks for whole(i) once for each slot i, in any order. On the
  // others: sends the parts until rank 0 has taken them. Collective.
  using WholeSlot = std::function<at::Tensor(std::size_t i)>;
  void gather_state(const std::vector<StateSlot>& slots,
                    const std::function<void(const WholeSlot&)>& use) const;

 private:
  struct Piece {
    int64_t begin = 0, count = 0;  // of a parameter, in elements
  };
  Piece piece(std::size_t parameter, int rank) const;
  at::Tensor own(const at::Tensor& flat) const;

  Communicator& group_;
  bool return_gradients_;
  std::vector<Parameter*> parameters_;  // trainable
  std::vector<int64_t> starts_;
  at::Tensor values_, gradients_;  // flat
  int64_t share_ = 0;              // elements a rank
};

}  // namespace ithaca
