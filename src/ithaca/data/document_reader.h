// The documents of a training file, as stored. The file is mapped, so a line may be as long as it likes and
// only its own text is ever held.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/base/file.h"
#include "ithaca/data/host.h"

namespace ithaca {

class DocumentReader {
 public:
  // A document that has not been looked into yet: the whole file, or one line of a .jsonl.
  struct Source {
    std::string_view bytes;  // a view of the file, valid as long as the reader
    int64_t line = 0;        // from 1; 0 for a .txt
  };

  // UserError: the file is missing, no regular file, empty, neither .txt nor .jsonl (in any case), or UTF-16.
  explicit DocumentReader(const std::filesystem::path& file);

  // The next documents, at least one until the end: at most `max_documents`, and no further one once
  // `max_bytes` are reached. Blank lines are no documents.
  std::vector<Source> next(std::size_t max_documents, std::size_t max_bytes);

  // Calls `use` with the document's text, bytes verbatim, less a byte order mark in front of it: of the file, of a line
  // or of the string in it. UserError names file and line, or the byte that is not UTF-8. Safe from several threads at
  // once.
  void read(
      const Source& source, const std::function<void(std::string_view)>& use, const Poll& poll = [] {}) const;

  bool is_jsonl() const { return jsonl_; }
  std::size_t size() const { return map_->bytes().size(); }       // bytes
  std::size_t position() const { return size() - rest_.size(); }  // bytes that next() is through with
  std::string content_hash(const Poll& poll) const;               // SHA-256 of the file's bytes, hex

 private:
  std::filesystem::path file_;
  std::shared_ptr<const MappedFile> map_;
  std::string_view rest_;
  int64_t line_ = 0;
  bool jsonl_ = false;
};

}  // namespace ithaca
