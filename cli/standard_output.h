// The end of what a command prints for others to read.
#pragma once

namespace ithaca {

// Writes out what standard output still holds. UserError if it does not arrive (a full disk). Where the reader
// has gone (`| head`) the process ends as programs do there: by SIGPIPE, without a word.
void finish_standard_output();

}  // namespace ithaca
