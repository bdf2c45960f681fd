// What is done with a key of somebody else's file: every key that its usual readers know is declared as one of these
// (config/file_keys.h, text/tokenizer_keys.h), and pages of docs are written from the declarations.
#pragma once

namespace ithaca {

enum class KeyUse {
  kUsed,      // changes the result, and does so here
  kHarmless,  // changes nothing
  kRefused,   // would change the result: accepted only with a value that says nothing
};

}  // namespace ithaca
