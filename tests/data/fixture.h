// A folder of its own for each test, and tokenizers small enough to check by hand.
#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/data/corpus.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {

class DataTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    return folder_.write(name, bytes);
  }

  // A token a byte: id = byte + 1, eos 0, vocabulary 258; bos 257 where asked.
  DocumentEncoder byte_encoder(bool with_bos = false) {
    DocumentEncoder encoder;
    encoder.encode = [calls = calls_](std::string_view text, const Poll&, std::vector<int32_t>& ids) {
      ++*calls;
      for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 1);
    };
    if (with_bos) encoder.bos = 257;
    encoder.eos = 0;
    encoder.fingerprint = "bytes";
    return encoder;
  }
  static constexpr int64_t kVocabulary = 258;

  int calls() const { return *calls_; }

  // What the documents of `corpus` were, as byte_encoder() without bos made them.
  static std::vector<std::string> texts(const Corpus& corpus) {
    std::vector<std::string> found;
    for (std::size_t d = 0; d + 1 < corpus.bounds.size(); ++d) {
      std::string text;
      for (int64_t t = corpus.bounds[d]; t + 1 < corpus.bounds[d + 1]; ++t)
        text += static_cast<char>(corpus.ids[static_cast<std::size_t>(t)] - 1);
      found.push_back(text);
    }
    return found;
  }
  std::vector<std::string> texts_of(const std::string& name, const std::string& bytes) {
    return texts(open_corpus(write(name, bytes), byte_encoder(), {}));
  }
  // The message of the UserError.
  std::string refusal_of(const std::string& name, const std::string& bytes) {
    const std::filesystem::path file = write(name, bytes);
    try {
      open_corpus(file, byte_encoder(), {});
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  TemporaryFolder folder_;

 private:
  std::shared_ptr<std::atomic<int>> calls_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace ithaca
