// A folder of its own for each test, and tokenizers small enough to check by hand.
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "ithaca/data/dataset.h"

namespace ithaca {

class DataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "ithaca-data-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    return path;
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

  std::filesystem::path folder_;

 private:
  std::shared_ptr<std::atomic<int>> calls_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace ithaca
