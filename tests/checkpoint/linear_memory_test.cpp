// Memory follows from what a file holds: what each parser allocates is counted, over generated files of n and 4 n
// entries, and over files that claim more than they hold.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/checkpoint/gguf_llama.h"
#include "ithaca/checkpoint/gguf_tokenizer.h"
#include "ithaca/checkpoint/integrity.h"
#include "ithaca/checkpoint/model_weights.h"
#include "ithaca/config/python_json.h"
#include "tests/checkpoint/gguf_model.h"
#include "tests/support/temporary_folder.h"

namespace {

// Of this thread, so that nothing else is counted.
thread_local std::size_t allocations = 0, held = 0, peak = 0;

void* counted(std::size_t bytes) {
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (!memory) throw std::bad_alloc();
  ++allocations;
  held += malloc_usable_size(memory);
  if (held > peak) peak = held;
  return memory;
}

void released(void* memory) noexcept {
  if (memory) held -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new[](std::size_t bytes) {
  return counted(bytes);
}
// Under the address sanitizer these would be its own, whose memory `released` may not free.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return counted(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept {
  return ::operator new(bytes, tag);
}
void operator delete(void* memory) noexcept {
  released(memory);
}
void operator delete[](void* memory) noexcept {
  released(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  released(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  released(memory);
}

namespace ithaca {
namespace {

struct Cost {
  std::size_t allocations, peak;
};

// What `parse` takes; it may refuse its input.
Cost cost_of(const std::function<void()>& parse) {
  allocations = 0;
  held = peak = std::size_t{1} << 40;  // what was there before may be released in between
  try {
    parse();
  } catch (const UserError&) {
  }
  return {allocations, peak - (std::size_t{1} << 40)};
}

// `make(n)` is a file of n entries, `parse` reads it. At most `per_byte` bytes are held for each byte of the file, and
// four times the entries take at most four and a half times as much.
void expect_linear(const char* what, const std::function<std::string(int)>& make,
                   const std::function<void(const std::string&)>& parse, double per_byte, int n = 500) {
  const std::string small = make(n), large = make(4 * n);
  const Cost of_small = cost_of([&] { parse(small); }), of_large = cost_of([&] { parse(large); });
  const double ratio = static_cast<double>(large.size()) / static_cast<double>(small.size());
  EXPECT_LE(static_cast<double>(of_large.peak), per_byte * static_cast<double>(large.size())) << what;
  EXPECT_LE(static_cast<double>(of_large.peak), 1.15 * ratio * static_cast<double>(of_small.peak)) << what;
  EXPECT_LE(static_cast<double>(of_large.allocations),
            1.15 * ratio * static_cast<double>(of_small.allocations))
      << what;
}

std::string safetensors_file(int tensors) {
  std::string header = "{";
  for (int i = 0; i < tensors; ++i)
    header +=
        str(i ? "," : "", "\"model.layers.", i, ".mlp.down_proj.weight\":{\"dtype\":\"F32\",\"shape\":[1],",
            "\"data_offsets\":[", 4 * i, ",", 4 * i + 4, "]}");
  header += "}";
  return GgufWriter::raw(uint64_t{header.size()}) + header +
         std::string(static_cast<std::size_t>(4 * tensors), '\0');
}

TEST(LinearMemory, SafetensorsHeader) {
  expect_linear(
      "safetensors", safetensors_file,
      [](const std::string& file) { (void)parse_safetensors_header(std::as_bytes(std::span(file)), "x"); },
      24);
}

// A header is held once, however many tensors are taken out of it.
TEST(LinearMemory, WeightFilesShareTheirHeaders) {
  const TemporaryFolder folder;
  expect_linear(
      "folder", safetensors_file,
      [&](const std::string& file) {
        write_file(folder / "model.safetensors", file);
        const WeightFiles weights = WeightFiles::open(folder.path());
        ASSERT_GE(weights.tensors().size(), 500u);
        std::vector<WeightFiles::Tensor> taken;
        for (const auto& [name, tensor] : weights.tensors()) taken.push_back(tensor);
      },
      26);
}

TEST(LinearMemory, WeightIndex) {
  const auto make = [](bool good) {
    return [good](int entries) {
      Json map = Json::object();
      for (int i = 0; i < entries; ++i)
        map[str("model.layers.", i, ".mlp.down_proj.weight")] =
            str(good ? "" : "../", "model-", i, ".safetensors");
      return Json{{"weight_map", map}}.dump();
    };
  };
  const auto parse = [](const std::string& text) { (void)parse_weight_index(text, "folder", "index.json"); };
  expect_linear("index", make(true), parse, 16);
  expect_linear("index of bad names", make(false), parse, 16);
}

TEST(LinearMemory, IntegrityAndConfig) {
  expect_linear(
      "integrity.json",
      [](int files) {
        Json list = Json::object();
        for (int i = 0; i < files; ++i)
          list[str("file", i)] = {{"size", i}, {"sha256", std::string(64, 'a')}};
        return Json{{"format", 1}, {"step", 1}, {"files", list}}.dump();
      },
      [](const std::string& text) { (void)parse_integrity(parse_json(text, "x"), 1, "x"); }, 24);
  expect_linear(
      "config.json",
      [](int keys) {
        Json json = Json::object();
        for (int i = 0; i < keys; ++i) json[str("unknown", i)] = i;
        return json.dump();
      },
      [](const std::string& text) { (void)parse_model_config(parse_python_json(text, "x"), "x"); }, 60);
  expect_linear(
      "NaN in config.json",
      [](int words) {
        std::string text = "[NaN";
        for (int i = 0; i < words; ++i) text += ",Infinity";
        return text + "]";
      },
      [](const std::string& text) { (void)parse_python_json(text, "x"); }, 60);
}

GgufHeader header_of(const std::string& file) {
  return parse_gguf(std::as_bytes(std::span(file)), "x.gguf");
}

TEST(LinearMemory, GgufMetadataAndTensors) {
  const auto parse = [](const std::string& file) { (void)header_of(file); };
  expect_linear(
      "strings",
      [](int n) {
        return GgufWriter().strings("a", std::vector<std::string>(static_cast<std::size_t>(n), "")).file();
      },
      parse, 8, 5000);
  expect_linear(
      "bytes",
      [](int n) {
        return GgufWriter()
            .entry("a", 9,
                   GgufWriter::raw(uint32_t{0}) + GgufWriter::raw(static_cast<uint64_t>(n)) +
                       std::string(static_cast<std::size_t>(n), 'x'))
            .file();
      },
      parse, 9, 20000);
  expect_linear(
      "keys",
      [](int n) {
        GgufWriter writer;
        for (int i = 0; i < n; ++i) writer.u32(str("k", i), 1);
        return writer.file();
      },
      parse, 16);
  expect_linear(
      "tensors",
      [](int n) {
        GgufWriter writer;
        for (int i = 0; i < n; ++i) writer.tensor(str("t", i), {1}, 0, "abcd");
        return writer.file();
      },
      parse, 8);
}

TEST(LinearMemory, GgufTokenizer) {
  const auto vocabulary = [](const char* model) {
    return [model](int n) {
      std::vector<std::string> tokens;
      std::vector<float> scores;
      for (int i = 0; i < n; ++i) {
        tokens.push_back(str("t", i));
        scores.push_back(static_cast<float>(-i));
      }
      GgufWriter writer;
      writer.string("tokenizer.ggml.model", model)
          .string("tokenizer.ggml.pre", "gpt-2")
          .strings("tokenizer.ggml.tokens", tokens);
      if (model == std::string("gpt2"))
        writer.strings("tokenizer.ggml.merges", {});
      else
        writer.f32s("tokenizer.ggml.scores", scores);
      return writer.file();
    };
  };
  const auto parse = [](const std::string& file) {
    const GgufHeader header = header_of(file);
    (void)read_gguf_tokenizer(GgufMetadata(header, "x.gguf"));
  };
  expect_linear("byte-level vocabulary", vocabulary("gpt2"), parse, 60);
  expect_linear("SentencePiece vocabulary", vocabulary("llama"), parse, 60);
}

// Headers that claim more than there is are refused before anything of that size is allocated.
TEST(LinearMemory, ClaimsAloneTakeNothing) {
  GgufWriter tensors, entries, strings;
  tensors.tensor_count = uint64_t{1} << 60;
  entries.entry_count = uint64_t{1} << 60;
  strings.entry("a", 9, GgufWriter::raw(uint32_t{8}) + GgufWriter::raw(uint64_t{1} << 60));
  for (const std::string& file : {tensors.file(), entries.file(), strings.file()})
    EXPECT_LT(cost_of([&] { (void)header_of(file); }).peak, 10000u);
  const std::string claim = GgufWriter::raw(uint64_t{99'000'000}) + "{}";
  EXPECT_LT(cost_of([&] { (void)parse_safetensors_header(std::as_bytes(std::span(claim)), "x"); }).peak,
            10000u);
}

}  // namespace
}  // namespace ithaca
