// All documents of a file through the tokenizer, on several threads.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "ithaca/data/corpus.h"
#include "ithaca/data/document_reader.h"

namespace ithaca {

// Documents in the order of the file: their ids one after another, and how many each has.
using TakeDocuments = std::function<void(std::span<const int32_t> ids, std::span<const int64_t> lengths)>;

// Calls `take` on the calling thread, again and again; returns the highest id. Threads read and encode a few hundred
// kilobytes at a time (or one document, if that is longer), at most a few such parts ahead of `take`. `name` is the file
// in messages. Of several bad documents the first one is named, whatever the threads do; UserError also for a negative
// id and a file of blank lines.
int32_t tokenize_documents(DocumentReader& reader, const std::string& name, const DocumentEncoder& encoder,
                           const CorpusOptions& options, const TakeDocuments& take);

}  // namespace ithaca
