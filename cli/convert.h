// `ithaca convert MODEL.gguf DIR [--dtype float32|bfloat16] [--overwrite]`
#pragma once
#include <string>
#include <vector>

namespace ithaca {

// `arguments` are those after the word convert. Prints what it wrote; returns the exit code. UserError on a
// bad command line, a bad file, or a folder that is not empty without --overwrite. Needs no torch.
int run_convert(const std::vector<std::string>& arguments);

}  // namespace ithaca
