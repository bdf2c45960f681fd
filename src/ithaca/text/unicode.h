// UTF-8 and the character classes that the tokenizers' rules are written in, as the
// `tokenizers` library has them (library_tables.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ithaca {

// Each maximal ill-formed part becomes one U+FFFD (Unicode standard, section 3.9, "substitution of maximal
// subparts").
std::string to_valid_utf8(std::string_view text);
bool is_valid_utf8(std::string_view text);

// The character at `position`, which is moved behind it. `text` is valid UTF-8 and `position` a boundary
// inside it.
char32_t next_code_point(std::string_view text, std::size_t& position);
// The last character of text[0, end); end > 0.
char32_t last_code_point(std::string_view text, std::size_t end);
void append_utf8(std::string& text, char32_t code_point);

bool is_white_space(char32_t c);     // property White_Space
bool is_numeric(char32_t c);         // Nd, Nl, No
bool is_punctuation(char32_t c);     // P*, and the ASCII symbols
bool is_mark(char32_t c);            // what StripAccents takes out
bool is_word_character(char32_t c);  // Alphabetic, M, Nd, Pc, join controls: \w of Rust's regex crate

}  // namespace ithaca
