// What Python's str does, on UTF-8. Positions and lengths that a template sees count code points.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca::jinja {

bool is_space(char32_t c);  // of str.isspace and str.strip
std::size_t code_points(std::string_view text);
// The byte at which code point `index` begins; text.size() if there are not so many.
std::size_t byte_of(std::string_view text, std::size_t index);

enum class Side : std::uint8_t { kBoth, kLeft, kRight };
// Without the characters of `chars` (white space where absent) at its ends.
std::string_view strip(std::string_view text, Side side = Side::kBoth,
                       std::optional<std::string_view> chars = std::nullopt);

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);
// At runs of white space, or at each `separator` (not empty); at most `limit` times (none: below 0), from
// the left or the right.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    std::int64_t limit = -1);
std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator,
                                          std::int64_t limit = -1);
// How often `part` occurs, without overlap.
std::size_t count_of(std::string_view text, std::string_view part);
// The first `limit` occurrences (all: below 0).
std::string replace(std::string_view text, std::string_view old_part, std::string_view new_part,
                    std::int64_t limit = -1);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);  // str.title; the filter's rule is another

bool all_of_class(std::string_view text, bool (*member)(char32_t));  // false if empty
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_alnum(char32_t c);
bool is_upper(std::string_view text);  // at least one letter with a case, none of the other case
bool is_lower(std::string_view text);

// As Python writes a str in a list: quoted, with escapes.
std::string repr(std::string_view text);
// As json.dumps writes it.
void append_json(std::string& out, std::string_view text, bool ensure_ascii);

}  // namespace ithaca::jinja
