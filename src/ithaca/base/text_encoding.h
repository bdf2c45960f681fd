// Texts of others are read as UTF-8. What is something else is named, with the command that converts it.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ithaca {

// Byte offset of the first byte that does not belong to well-formed UTF-8 (Unicode 15, table 3-7); nothing
// when all is well.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// `text` behind its byte order mark (EF BB BF; several where programs have added one each): it says how the text is
// encoded and is no part of it.
std::string_view without_byte_order_mark(std::string_view text);

// "is UTF-16 ...; convert it first: iconv ..." when a file that begins with these bytes is UTF-16 or UTF-32, with a
// byte order mark or, from where its zero bytes lie, without; else empty. Looks at the first 64 KiB.
std::string wide_encoding_problem(std::string_view text);

// What to say of a text that is not well-formed UTF-8 at `offset`, a position in `text`: "not UTF-8 at byte N (0xE9); ...",
// with the likeliest way to mend it.
std::string not_utf8_problem(std::string_view text, std::size_t offset);

}  // namespace ithaca
