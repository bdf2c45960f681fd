// Any bytes are either refused with UserError or give metadata and tensors inside the file; the Llama mapping
// and the tokenizer are built from whatever was accepted.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf.h"
#include "ithaca/checkpoint/gguf_llama.h"
#include "ithaca/checkpoint/gguf_tokenizer.h"

namespace {

constexpr int64_t kMaxElements = 1 << 16;

template <class Function>
void try_to(Function&& function) {
  try {
    function();
  } catch (const ithaca::UserError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  const std::string source = "fuzz.gguf";
  try_to([&] {
    const ithaca::GgufFiles files{source, {file}, {}, ithaca::parse_gguf(file, source)};
    for (const ithaca::GgufTensor& tensor : files.header.tensors) {
      if (tensor.numel() > kMaxElements) continue;
      std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
      ithaca::dequantize(tensor.type, files.bytes(tensor), values);
    }
    const ithaca::GgufMetadata metadata(files.header, source);
    try_to([&] { (void)ithaca::read_gguf_tokenizer(metadata).tokenizer->dump(); });
    try_to([&] {
      ithaca::LlamaFile llama(files);
      nlohmann::json config = nlohmann::json::object();
      llama.add_config(config);
      (void)llama.map_tensors();
    });
  });
  return 0;
}
