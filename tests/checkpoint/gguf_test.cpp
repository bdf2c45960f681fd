#include "ithaca/checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/safetensors.h"
#include "tests/checkpoint/gguf_writer.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;

GgufHeader parse(const std::string& file) {
  return parse_gguf(std::as_bytes(std::span(file)), "some.gguf");
}

std::string message_of(const std::string& file) {
  try {
    parse(file);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

template <class T>
std::string raw(T value) {
  return GgufWriter::raw(value);
}

std::string with_magic(const std::string& magic) {
  GgufWriter writer;
  writer.magic = magic;
  return writer.file();
}

std::string with_version(uint32_t version) {
  GgufWriter writer;
  writer.version = version;
  return writer.file();
}

std::string with_counts(uint64_t tensors, uint64_t entries) {
  GgufWriter writer;
  writer.tensor_count = tensors;
  writer.entry_count = entries;
  return writer.file();
}

std::string one_entry(const std::string& key, uint32_t type, const std::string& bytes) {
  return GgufWriter().entry(key, type, bytes).file();
}

std::string one_tensor(const std::vector<uint64_t>& dims, uint32_t type, const std::string& data,
                       uint64_t offset = 0) {
  return GgufWriter().tensor_entry("blk.0.w", dims, type, offset).file() + data;
}

struct BadFile {
  std::string file;
  std::string names;
  std::string rule;
};

TEST(GgufParseTest, RefusesBadFilesByName) {
  const std::string w = "tensor blk.0.w";
  const uint64_t huge = uint64_t{1} << 62;
  const std::string data(64, 'x');
  const std::string whole = GgufWriter().u32("k", 1).tensor("blk.0.w", {4}, 0, std::string(16, 'x')).file();
  const std::vector<BadFile> cases = {
      {"", "header", "four letters GGUF"},
      {"GGUF", "header", "four letters GGUF"},
      {with_magic("GGML"), "header", "four letters GGUF"},
      {with_version(1), "header", "version 1 is not supported"},
      {with_version(4), "header", "version 4 is not supported"},
      {with_version(0x03000000), "header", "big-endian"},
      {with_counts(UINT64_MAX, 0), "header", "18446744073709551615 tensors"},
      {with_counts(0, UINT64_MAX), "header", "18446744073709551615 metadata entries"},
      {with_counts(0, 1), "metadata entries", "cannot be"},
      {one_entry("", 4, raw(uint32_t{1})), "metadata entry 0", "key has 0 bytes"},
      {one_entry(std::string(70000, 'k'), 4, raw(uint32_t{1})), "metadata entry 0", "key has 70000 bytes"},
      {GgufWriter().u32("k", 1).u32("k", 2).file(), "key k", "occurs twice"},
      {one_entry("k", 13, raw(uint64_t{1})), "key k", "value type 13 is unknown"},
      {one_entry("k", 8, raw(huge)), "key k", "needs 4611686018427387904 bytes"},
      {one_entry("k", 8, raw(UINT64_MAX)), "key k", "needs 18446744073709551615 bytes"},
      {one_entry("k", 9, raw(uint32_t{4}) + raw(huge)), "key k", "4611686018427387904 numbers"},
      {one_entry("k", 9, raw(uint32_t{8}) + raw(huge)), "key k", "4611686018427387904 strings"},
      {one_entry("k", 9, raw(uint32_t{8}) + raw(uint64_t{1}) + raw(huge)), "key k", "truncated"},
      {one_entry("k", 9, raw(uint32_t{9}) + raw(uint64_t{1})), "key k", "arrays of arrays"},
      {one_entry("k", 9, raw(uint32_t{77}) + raw(uint64_t{1})), "key k", "value type 77"},
      {one_entry("k", 9, raw(uint32_t{10}) + raw(uint64_t{1}) + raw(UINT64_MAX)), "key k", "63 bits"},
      {GgufWriter().u32("general.alignment", 0).file(), "general.alignment", "power of two"},
      {GgufWriter().u32("general.alignment", 24).file(), "general.alignment", "power of two"},
      {GgufWriter().string("general.alignment", "32").file(), "general.alignment", "power of two"},
      {GgufWriter().entry("general.alignment", 10, raw(uint64_t{1} << 63)).file(), "general.alignment",
       "power of two"},
      {GgufWriter().tensor_entry("", {4}, 0, 0).file(), "tensor 0", "name has 0 bytes"},
      {one_tensor({}, 0, data), w, "has 0 dims"},
      {one_tensor({1, 1, 1, 1, 1}, 0, data), w, "has 5 dims"},
      {one_tensor({4, 0}, 0, data), w, "size 0"},
      {one_tensor({UINT64_MAX}, 0, data), w, "18446744073709551615"},
      {one_tensor({huge, 4}, 0, data), w, "product below 2^63"},
      {one_tensor({huge}, 0, data), w, "does not fit in 64 bits"},
      {one_tensor({256}, 13, data), w, "Q5_K, which is not supported; known are F32"},
      {one_tensor({4}, 999, data), w, "number 999"},
      {one_tensor({48}, 3, data), w, "no multiple of the Q4_1 block of 32"},
      {one_tensor({32}, 14, data), w, "no multiple of the Q6_K block of 256"},
      {one_tensor({4}, 0, data, 32), w, "starts at byte 32 of the data, expected 0"},
      {one_tensor({17}, 0, data), w, "needs 68 bytes"},
      {one_tensor({uint64_t{1} << 40}, 0, data), w, "truncated"},
      {GgufWriter().tensor("blk.0.w", {4}, 0, std::string(16, 'x')).tensor_entry("v", {4}, 0, 0).file(),
       "tensor v", "expected 32"},
      {GgufWriter()
           .tensor("blk.0.w", {4}, 0, std::string(16, 'x'))
           .tensor("blk.0.w", {4}, 0, std::string(16, 'x'))
           .file(),
       w, "occurs twice"},
      {whole.substr(0, whole.size() - 1), w, "truncated"},
      {whole.substr(0, 90), "", "truncated"},
      {GgufWriter().u32("general.alignment", 1U << 31).tensor_entry("blk.0.w", {1}, 0, 0).file(),
       "data section", "truncated"},
  };
  ASSERT_GE(cases.size(), 25U);
  ASSERT_NO_THROW(parse(whole));
  for (const BadFile& bad : cases) {
    const std::string message = message_of(bad.file);
    EXPECT_THAT(message, HasSubstr("some.gguf"));
    EXPECT_THAT(message, HasSubstr(bad.names));
    EXPECT_THAT(message, HasSubstr(bad.rule));
  }
}

TEST(GgufParseTest, EveryTruncationIsRefused) {
  const std::string whole =
      GgufWriter().strings("s", {"a", "bc"}).u32("k", 1).tensor("w", {4}, 0, std::string(16, 'x')).file();
  ASSERT_GT(whole.size(), 100U);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(parse(whole.substr(0, size)), UserError) << size;
}

TEST(GgufParseTest, ReadsEveryValueType) {
  const GgufHeader header = parse(GgufWriter()
                                      .entry("u8", 0, raw(uint8_t{200}))
                                      .entry("i8", 1, raw(int8_t{-2}))
                                      .entry("u16", 2, raw(uint16_t{60000}))
                                      .entry("i16", 3, raw(int16_t{-3}))
                                      .u32("u32", 4000000000U)
                                      .entry("i32", 5, raw(int32_t{-4}))
                                      .f32("f32", 0.5F)
                                      .boolean("bool", true)
                                      .string("text", "hi")
                                      .entry("u64", 10, raw(UINT64_MAX))
                                      .entry("i64", 11, raw(INT64_MIN))
                                      .entry("f64", 12, raw(0.1))
                                      .i32s("i32s", {1, -1})
                                      .f32s("f32s", {0.25F})
                                      .strings("texts", {"a", ""})
                                      .tensor("w", {3, 2}, 0, std::string(24, 'x'))
                                      .file());
  const auto& metadata = header.metadata;
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u8")), 200U);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i8")), -2);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u16")), 60000U);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i16")), -3);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u32")), 4000000000U);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i32")), -4);
  EXPECT_EQ(std::get<double>(metadata.at("f32")), 0.5);
  EXPECT_EQ(std::get<bool>(metadata.at("bool")), true);
  EXPECT_EQ(std::get<std::string>(metadata.at("text")), "hi");
  EXPECT_EQ(std::get<uint64_t>(metadata.at("u64")), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(metadata.at("i64")), INT64_MIN);
  EXPECT_EQ(std::get<double>(metadata.at("f64")), 0.1);
  EXPECT_EQ(std::get<std::vector<int64_t>>(metadata.at("i32s")), (std::vector<int64_t>{1, -1}));
  EXPECT_EQ(std::get<std::vector<double>>(metadata.at("f32s")), (std::vector<double>{0.25}));
  EXPECT_EQ(std::get<std::vector<std::string>>(metadata.at("texts")), (std::vector<std::string>{"a", ""}));
  ASSERT_EQ(header.tensors.size(), 1U);
  EXPECT_EQ(header.tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header.tensors[0].bytes, 24U);
  EXPECT_EQ(header.tensors[0].numel(), 6);
}

// Random blocks and what the gguf package 0.19.0 makes of them:
// tools/oracles/checkpoint_dequantize_golden.py. Equal bit for bit.
TEST(DequantizeTest, EqualsTheReferencePackage) {
  const SafetensorsFile golden = SafetensorsFile::open(std::string(ITHACA_SOURCE_DIR) +
                                                       "/tests/golden/checkpoint/dequantize.safetensors");
  const std::vector<GgmlType> types = {GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ4_0,
                                       GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kQ8_0,
                                       GgmlType::kQ4_K, GgmlType::kQ6_K};
  ASSERT_EQ(golden.header().tensors.size(), 2 * types.size());
  for (const GgmlType type : types) {
    const std::string name = ggml_type_info(type).name;
    const auto blocks = golden.data(golden.header().tensors.at(name + ".blocks"));
    const auto expected = golden.data(golden.header().tensors.at(name + ".values"));
    std::vector<float> values(expected.size() / sizeof(float));
    ASSERT_GE(values.size(), 512U) << name;
    dequantize(type, blocks, values);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0) << name;
  }
}

TEST(DequantizeTest, RefusesSizesThatDoNotFit) {
  std::vector<float> out(32);
  const std::string bytes(20, 'x');
  EXPECT_THROW(dequantize(GgmlType::kQ4_0, std::as_bytes(std::span(bytes)), out), Error);
  EXPECT_THROW(dequantize(GgmlType::kQ4_1, std::as_bytes(std::span(bytes)), std::span(out).first(31)), Error);
  EXPECT_NO_THROW(dequantize(GgmlType::kQ4_1, std::as_bytes(std::span(bytes)), out));
}

}  // namespace
}  // namespace ithaca
