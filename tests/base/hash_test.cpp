#include "ithaca/base/hash.h"

#include <gtest/gtest.h>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

// FIPS 180-4, the published examples
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kTwoBlocks = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
constexpr const char* kMillion = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex();
}

TEST(Sha256, KnownVectors) {
  EXPECT_EQ(Sha256().hex(), kEmpty);
  EXPECT_EQ(sha256("abc"), kAbc);
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), kTwoBlocks);
  EXPECT_EQ(sha256(std::string(1000000, 'a')), kMillion);
}

TEST(Sha256, PiecesEqualTheWhole) {
  Sha256 hash;
  for (int i = 0; i < 1000; ++i) hash.update(std::string(1000, 'a'));
  EXPECT_EQ(hash.hex(), kMillion);
}

TEST(Sha256, OfAFile) {
  const TemporaryFolder folder;
  write_file(folder / "abc", "abc");
  write_file(folder / "empty", "");
  EXPECT_EQ(sha256_of_file(folder / "abc"), kAbc);
  EXPECT_EQ(sha256_of_file(folder / "empty"), kEmpty);
  EXPECT_THROW(sha256_of_file(folder / "none"), UserError);
}

}  // namespace
}  // namespace ithaca
