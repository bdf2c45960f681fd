// ithaca tokenize DIR FILE [--add_special_tokens]
#pragma once
#include <string>
#include <vector>

namespace ithaca {

// Prints the ids of FILE on standard output: a .jsonl (key text) one line a row, any other file as one
// document on one line; .jsonl and .txt are read as train and eval read them. `arguments` are those behind the word tokenize. UserError names what is wrong.
// Returns the exit code.
int run_tokenize(const std::vector<std::string>& arguments);

}  // namespace ithaca
