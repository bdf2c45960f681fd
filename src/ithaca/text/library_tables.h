// The characters that the `tokenizers` library's parts other than regular expressions take for digits,
// punctuation, marks and words: its tables come from several releases of Unicode, none of which is utf8proc's.
#pragma once
#include <span>

namespace ithaca::library {

struct Range {
  char32_t first, last;
};

// Sorted, none next to another.
std::span<const Range> numeric();      // Digits
std::span<const Range> punctuation();  // Punctuation
std::span<const Range> marks();        // StripAccents
std::span<const Range> words();        // Whitespace, single_word of added tokens

}  // namespace ithaca::library
