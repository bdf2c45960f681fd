#include "ithaca/data/document_reader.h"

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/base/hash.h"
#include "ithaca/base/text_encoding.h"
#include "ithaca/data/json_record.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;  // some milliseconds of work

bool is_blank(std::string_view line) {
  return without_byte_order_mark(line).find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// The end of a piece of about kPieceBytes that begins at `begin` and cuts no character.
std::size_t piece_end(std::string_view text, std::size_t begin) {
  std::size_t end = std::min(begin + kPieceBytes, text.size());
  const auto is_tail = [&] {
    return end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80;
  };
  for (int i = 0; i < 3 && is_tail(); ++i) --end;
  return end;
}

}  // namespace

DocumentReader::DocumentReader(const fs::path& file) : file_(file) {
  const std::string problem = input_file_problem(file);
  if (!problem.empty())
    throw UserError(str(file.string(), ": ", problem, "; expected a .txt or .jsonl file"));
  const std::string ending = file_ending(file);
  if (ending != ".txt" && ending != ".jsonl")
    throw UserError(
        str(file.string(), ": unknown file ending \"", ending,
            "\"; expected .txt (one document) or .jsonl (a document a line, under the key \"text\")"));
  jsonl_ = ending == ".jsonl";
  map_ = MappedFile::open(file);
  const auto bytes = map_->bytes();
  rest_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  if (rest_.empty()) throw UserError(str(file.string(), ": is empty; expected some text"));
  const std::string encoding = wide_encoding_problem(rest_);
  if (!encoding.empty()) throw UserError(str(file.string(), ": ", encoding));
}

std::vector<DocumentReader::Source> DocumentReader::next(std::size_t max_documents, std::size_t max_bytes) {
  std::vector<Source> found;
  if (!jsonl_) {
    if (!rest_.empty()) found.push_back({rest_, 0});
    rest_ = {};
    return found;
  }
  std::size_t bytes = 0;
  while (!rest_.empty() && found.size() < max_documents && bytes < max_bytes) {
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    rest_.remove_prefix(std::min(rest_.size(), line.size() + 1));
    ++line_;
    if (is_blank(line)) continue;
    found.push_back({line, line_});
    bytes += line.size();
  }
  return found;
}

void DocumentReader::read(const Source& source, const std::function<void(std::string_view)>& use,
                          const Poll& poll) const {
  if (source.line == 0) {
    for (std::size_t begin = 0; begin < source.bytes.size(); poll()) {
      const std::size_t end = piece_end(source.bytes, begin);
      if (const auto bad = find_invalid_utf8(source.bytes.substr(begin, end - begin)))
        throw UserError(str(file_.string(), ": ", not_utf8_problem(source.bytes, begin + *bad)));
      begin = end;
    }
    return use(without_byte_order_mark(source.bytes));
  }
  const JsonRecord record(without_byte_order_mark(source.bytes), "text");
  if (!record.problem().empty())
    throw UserError(str(file_.string(), " line ", source.line, ": ", record.problem()));
  use(without_byte_order_mark(record.text()));
}

std::string DocumentReader::content_hash(const Poll& poll) const {
  Sha256 hash;
  for (auto rest = map_->bytes(); !rest.empty(); poll()) {
    const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
    hash.update(piece);
    rest = rest.subspan(piece.size());
  }
  return hash.hex();
}

}  // namespace ithaca
