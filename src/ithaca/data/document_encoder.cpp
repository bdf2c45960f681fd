// The only file here that calls the tokenizer.
#include "ithaca/base/error.h"
#include "ithaca/data/dataset.h"

namespace ithaca {

DocumentEncoder document_encoder(const Tokenizer& tokenizer) {
  if (!tokenizer.eos_id())
    throw UserError(
        "the tokenizer names no eos_token, and every document must end with one; set \"eos_token\" in "
        "tokenizer_config.json to a "
        "token of the vocabulary");
  DocumentEncoder encoder;
  if (tokenizer.adds_bos()) {
    if (!tokenizer.bos_id())
      throw UserError(
          "the tokenizer puts a bos token in front of documents but names none; set \"bos_token\" in "
          "tokenizer_config.json to a "
          "token of the vocabulary");
    encoder.bos = tokenizer.bos_id();
  }
  encoder.eos = *tokenizer.eos_id();
  encoder.fingerprint = tokenizer.fingerprint();
  encoder.encode = [&tokenizer](std::string_view text, const Poll& poll, std::vector<int32_t>& ids) {
    const std::vector<int32_t> found = tokenizer.encode(text, false, poll);
    ids.insert(ids.end(), found.begin(), found.end());
  };
  return encoder;
}

Dataset Dataset::open(const DatasetOptions& options, const Tokenizer& tokenizer, int64_t vocab_size) {
  return open(options, document_encoder(tokenizer), vocab_size);
}

}  // namespace ithaca
