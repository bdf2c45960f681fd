// The metadata keys of a Llama-architecture GGUF file that llama.cpp reads or the gguf package can write, and what the
// conversion does with each.
#pragma once
#include <span>
#include <string>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf.h"
#include "ithaca/config/file_keys.h"

namespace ithaca {

std::span<const FileKey> gguf_keys();

// UserError lists the refused keys whose values would change something. Returns a note that names the keys nobody is
// known to read; empty: there are none.
std::string check_gguf_keys(const GgufHeader& header, const std::string& source);

// Section of docs/model_files.md.
std::string gguf_keys_markdown();

}  // namespace ithaca
