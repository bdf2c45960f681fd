// integrity.json of a checkpoint: which files belong to it, with size and SHA-256. No torch, no file is touched.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "ithaca/base/json.h"

namespace ithaca {

struct FileIntegrity {
  uint64_t size = 0;
  std::string sha256;
};

// Relative name of each file -> what it was when it was saved. UserError (naming `source`) unless format, step (where
// the folder's name tells one), names and entries are as commit_checkpoint writes them.
std::map<std::string, FileIntegrity> parse_integrity(const Json& json, std::optional<int64_t> step,
                                                     const std::string& source);

}  // namespace ithaca
