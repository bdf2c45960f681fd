// One string out of one JSON object, without a tree of the rest: rows can hold a million tokens, and what stands beside
// the text may be anything that JSON writers in use put there.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace ithaca {

inline constexpr std::size_t kMaxRecordDepth = 1000;  // Python's json gives up about there, too

// The member `key` of a record. Beside RFC 8259 the values of other keys may be NaN and the infinities, as json of
// Python and others write them, numbers of any size, half surrogate pairs, bytes of any encoding, keys that occur
// twice. `key` itself must occur once, with a string of well-formed Unicode.
class JsonRecord {
 public:
  // `line` must outlive the record. Time and memory are linear in its length.
  JsonRecord(std::string_view line, std::string_view key);
  JsonRecord(const JsonRecord&) = delete;
  JsonRecord& operator=(const JsonRecord&) = delete;

  // What is wrong with the line, to follow its number; empty when text() is the string.
  const std::string& problem() const { return problem_; }
  // A view of the line, or of this object where the string had escapes.
  std::string_view text() const { return text_; }

 private:
  std::string problem_, unescaped_;
  std::string_view text_;
};

}  // namespace ithaca
