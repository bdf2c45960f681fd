// A folder of its own for each test, and tokenizers small enough to check by hand.
#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "ithaca/data/dataset.h"
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
    encoder.encode = [calls = calls_](std::string_view text) {
      ++*calls;
      std::vector<int32_t> ids;
      for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 1);
      return ids;
    };
    if (with_bos) encoder.bos = 257;
    encoder.eos = 0;
    encoder.fingerprint = "bytes";
    return encoder;
  }
  static constexpr int64_t kVocabulary = 258;

  int calls() const { return *calls_; }

  TemporaryFolder folder_;

 private:
  std::shared_ptr<std::atomic<int>> calls_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace ithaca
