// A whole tiny Llama as a GGUF file, or as the parts of a split one.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tests/checkpoint/gguf_writer.h"

namespace ithaca {

inline constexpr int64_t kHidden = 8, kHeads = 2, kIntermediate = 4;
inline constexpr std::size_t kVocab = 10;

struct GgufModel {
  std::string architecture = "llama", model = "gpt2", pre = "smollm";
  uint32_t kv_heads = 1;
  bool head = false;
  std::string leave_out = {};  // a tensor
  std::string merge = "a b";
  uint32_t eos = 1;
  std::function<void(GgufWriter&)> more = {};  // metadata and tensors beside the model's own
};

// Element i of tensor `seed` is seed + i / 1024: exact in float32.
inline std::string numbers(int64_t count, int seed) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i)
    bytes += GgufWriter::raw(static_cast<float>(seed) + static_cast<float>(i) / 1024.0F);
  return bytes;
}

inline void add_metadata(GgufWriter& writer, const GgufModel& options) {
  writer.string("general.architecture", options.architecture)
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 64)
      .u32("llama.embedding_length", kHidden)
      .u32("llama.feed_forward_length", kIntermediate)
      .u32("llama.attention.head_count", kHeads)
      .u32("llama.attention.head_count_kv", options.kv_heads)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5F)
      .f32("llama.rope.freq_base", 10000.0F)
      .string("tokenizer.ggml.model", options.model)
      .string("tokenizer.ggml.pre", options.pre)
      .strings("tokenizer.ggml.tokens",
               {"<s>", "</s>", "a", "b", "ab", "c", "<0x0A>", "\u2581", "\u2581a", "[PAD9]"})
      .i32s("tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 4, 6, 1, 1, 5})
      .u32("tokenizer.ggml.bos_token_id", 0)
      .u32("tokenizer.ggml.eos_token_id", options.eos)
      .string("tokenizer.chat_template", "{{ messages }}");
  if (options.model == "gpt2")
    writer.strings("tokenizer.ggml.merges", {options.merge});
  else
    writer.f32s("tokenizer.ggml.scores", {0, 0, -3, -4, -2, -5, 0, -6, -1, 0});
  if (options.more) options.more(writer);
}

// Tensors [begin, end) of the model, in file order.
inline void add_tensors(GgufWriter& writer, const GgufModel& options, int begin = 0, int end = 100) {
  int seed = 1;
  const auto tensor = [&](const std::string& name, const std::vector<uint64_t>& dims) {
    int64_t count = 1;
    for (const uint64_t dim : dims) count *= static_cast<int64_t>(dim);
    if (name != options.leave_out && seed > begin && seed <= end)
      writer.tensor(name, dims, 0, numbers(count, seed));
    ++seed;
  };
  const uint64_t kv_rows = options.kv_heads * kHidden / kHeads;
  tensor("token_embd.weight", {kHidden, kVocab});
  tensor("blk.0.attn_norm.weight", {kHidden});
  tensor("blk.0.attn_q.weight", {kHidden, kHidden});
  tensor("blk.0.attn_k.weight", {kHidden, kv_rows});
  tensor("blk.0.attn_v.weight", {kHidden, kv_rows});
  tensor("blk.0.attn_output.weight", {kHidden, kHidden});
  tensor("blk.0.ffn_norm.weight", {kHidden});
  tensor("blk.0.ffn_gate.weight", {kHidden, kIntermediate});
  tensor("blk.0.ffn_up.weight", {kHidden, kIntermediate});
  tensor("blk.0.ffn_down.weight", {kIntermediate, kHidden});
  tensor("output_norm.weight", {kHidden});
  if (options.head) tensor("output.weight", {kHidden, kVocab});
}

inline std::string gguf_model(const GgufModel& options = {}) {
  GgufWriter writer;
  add_metadata(writer, options);
  add_tensors(writer, options);
  return writer.file();
}

// What gguf-split makes: part `number` (from 0) of `ends.size()`, whose tensors end before ends[number].
inline std::string gguf_part(const GgufModel& options, int number, const std::vector<int>& ends,
                             int tensors = 11) {
  GgufWriter writer;
  writer.entry("split.no", 2, GgufWriter::raw(static_cast<uint16_t>(number)));
  writer.entry("split.count", 2, GgufWriter::raw(static_cast<uint16_t>(ends.size())));
  writer.entry("split.tensors.count", 5, GgufWriter::raw(static_cast<int32_t>(tensors)));
  if (number == 0) add_metadata(writer, options);
  const auto part = static_cast<std::size_t>(number);
  add_tensors(writer, options, number == 0 ? 0 : ends[part - 1], ends[part]);
  return writer.file();
}

}  // namespace ithaca
