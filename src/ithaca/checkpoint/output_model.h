// The final model of an output folder, which holds checkpoints and logs beside it: after a kill at any moment it
// is there whole (the new one or an older one) or not at all, which a missing config.json says to every reader.
// Written to model.tmp.PID-NONCE/, each file fsynced; renamed to model.new/: from here on it is whole, and
// finish_model carries on where a killed process stopped: the old config.json goes first, then the old weights,
// then the new files come, config.json last. Rank 0 alone calls these.
#pragma once
#include <filesystem>

namespace ithaca {

// An empty folder to write the model into. What dead processes left half-written is removed. UserError if
// output_dir cannot be written.
std::filesystem::path begin_model(const std::filesystem::path& output_dir);
// The files of `folder` (of begin_model) take the place of output_dir's model; plain files only. A file of
// output_dir that is a link is replaced, not written through.
void commit_model(const std::filesystem::path& folder, const std::filesystem::path& output_dir);
// Ends a commit_model that was killed, if there was one.
void finish_model(const std::filesystem::path& output_dir);
// Of a run that is given up: what begin_model and a killed commit_model left. The model itself stays.
void remove_unfinished_model(const std::filesystem::path& output_dir);

}  // namespace ithaca
