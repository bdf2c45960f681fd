// One case of "parallel equals single": what a rank of a layout computes on its part of a batch, and how it
// differs from one rank that computes all.
#pragma once
#include <string>
#include <vector>

#include "ithaca/comm/communicator.h"
#include "ithaca/parallel/plan.h"
#include "tests/parity/tiny_model.h"

namespace ithaca::parity {

inline constexpr double kTolerance = 1e-10;  // float64

// What a token attends to, besides its document's bounds.
enum class Sight { kCausal, kAll, kWindow, kAlibi, kSparse, kMask };

struct Case {
  int data = 1, ulysses = 1, ring = 1;
  ModelShape shape = {};
  int64_t length = 16;
  Documents documents = Documents::kOne;
  Sight sight = Sight::kCausal;
  CheckpointMode checkpoint = CheckpointMode::kNone;
  AttentionBackend backend = AttentionBackend::kAuto;
  RingMethod ring_method = RingMethod::kRing;
  bool ring_inner = false;
  int cp_window_size = 1, ulysses_chunks = 1;
  int micro_batches = 1;  // of a step, each of another length, with other labels
  int only = -1;          // one of them alone

  int ranks() const { return data * ulysses * ring; }
  std::string text() const;
};

struct Outcome {
  double loss_sum = 0;
  double grad_norm = 0;
  int64_t labels = 0, tokens = 0;
  std::vector<at::Tensor> gradients, updated;        // by parameter, after one SGD step
  int64_t bytes = 0, bytes_predicted = 0;            // of attention, forward and backward, sent by this rank
  int64_t step_bytes = 0, step_bytes_predicted = 0;  // of a whole train_step
  int64_t plans_made = 0, micro_batches = 0;         // in it
};

std::vector<Batch> micro_batches_of(const Case& c);
// Collective over `world`, which has c.ranks() ranks.
Outcome run_rank(const Case& c, Communicator& world);
// One rank, naive attention, nothing recomputed.
Outcome run_single(const Case& c);
// A line for each thing that is not equal within kTolerance; empty when all are.
std::vector<std::string> differences(const Outcome& got, const Outcome& expected);

}  // namespace ithaca::parity
