// checkpoint-N folders: everything a resumed run needs to equal the straight run bit for bit. safetensors +
// JSON only. Protocol: written to checkpoint-N.tmp.<nonce>/, each file fsynced, integrity.json (name, size,
// SHA-256) last, folder fsynced, renamed, parent fsynced. The old one is deleted only after. Rank 0 alone
// writes; the others wait at the caller's barrier.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ithaca/base/json.h"

namespace ithaca {

// A tensor to store; `whole` is asked for once, when its turn comes, so that parts need not all be brought
// together at once.
struct StoredTensor {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> sizes;
  std::function<at::Tensor()> whole;
};
// Where a part of a stored tensor goes: elements [begin, begin + part.numel()), row-major; undefined: nowhere.
struct StoredPart {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> sizes;  // of the whole
  int64_t begin = 0;
  at::Tensor part;
};

struct TrainingState {
  int64_t step = 0;
  // Schedule, sampler, RNG (hex), layout, threads per rank, CPU capability, versions, loss sums: whatever the
  // trainer wants back. Finite doubles come back with the same bits; JSON has no NaN or infinity (they come
  // back as null).
  Json state;
};

// Begins a checkpoint: returns the temporary folder, empty. What dead processes left half-written in output_dir is
// removed first (unless it is whole and has no checkpoint of its step beside it). Rank 0 only; further files (the model folder) may
// be written into it by the caller. UserError if output_dir cannot be written.
std::filesystem::path begin_checkpoint(const std::filesystem::path& output_dir, int64_t step);
// training_state.json and optimizer.safetensors. Tensor names must be unique.
void write_training_state(const std::filesystem::path& folder, const TrainingState& state,
                          const std::vector<StoredTensor>& optimizer);
// Hashes and fsyncs every file, writes integrity.json, renames to checkpoint-N (an older folder of that name
// is swapped out atomically, then deleted); then keeps the newest `save_total_limit` whole ones (0: all) and deletes
// what is older. A folder with missing or cut files does not count; sizes are compared here, not hashes, which would
// mean reading every kept checkpoint at every save. Returns the final path.
std::filesystem::path commit_checkpoint(const std::filesystem::path& temporary,
                                        const std::filesystem::path& output_dir, int64_t step,
                                        int64_t save_total_limit);

// Deletes every checkpoint-N folder of output_dir and what was left half-written there; for overwrite_output_dir. Rank 0
// only. UserError if one cannot be deleted.
void remove_checkpoints(const std::filesystem::path& output_dir);

// Renames the checkpoints of output_dir that do not lie on the way to the checkpoint `start` (those of a later step
// than it, all where it lies in another folder) to abandoned-checkpoint-N[-k], so that no search takes them for its
// continuation. Returns the new paths. Rank 0 only.
std::vector<std::filesystem::path> set_aside_checkpoints(const std::filesystem::path& output_dir,
                                                         const std::filesystem::path& start);

struct FoundCheckpoint {
  std::filesystem::path path;
  int64_t step = 0;
};
// The newest whole checkpoint (every file of integrity.json there, size and hash right, no other file), or
// none. `skipped` gets a line for each folder that was not whole, with the reason.
std::optional<FoundCheckpoint> find_checkpoint(const std::filesystem::path& output_dir,
                                               std::vector<std::string>& skipped);
// UserError with the reason if `folder` is not whole.
void verify_checkpoint(const std::filesystem::path& folder);
TrainingState read_training_state(const std::filesystem::path& folder);
// Copies the parts out of the stored tensors. Names, dtypes and whole sizes must be the same: UserError lists the
// differences.
void read_optimizer_state(const std::filesystem::path& folder, const std::vector<StoredPart>& optimizer);

}  // namespace ithaca
