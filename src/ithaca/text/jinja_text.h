// A chat template's Jinja text in one writing, so that it can be compared; it is never run.
#pragma once
#include <string>
#include <string_view>

namespace ithaca {

// What does not matter is taken away: comments, white space inside tags but outside string literals, the
// dashes of tags after doing their work on the text between tags (with trim_blocks and lstrip_blocks, as
// transformers sets them). "x" becomes 'x', a line feed in a literal or between tags \n, a['role'] and
// a['content'] become a.role and a.content.
std::string canonical_jinja(std::string_view source);

}  // namespace ithaca
