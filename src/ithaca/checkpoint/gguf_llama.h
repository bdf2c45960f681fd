// What a Llama-architecture GGUF holds, in Hugging Face terms.
// V vocabulary, C hidden, I intermediate, H query heads, K kv heads, D head size.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ithaca/base/json.h"
#include "ithaca/checkpoint/gguf_files.h"
#include "ithaca/checkpoint/gguf_metadata.h"
#include "ithaca/checkpoint/problem_list.h"

namespace ithaca {

struct LlamaShape {
  int64_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
};

// A GGUF tensor and the Hugging Face tensor it becomes.
struct GgufMapping {
  const GgufTensor* source;
  std::string name;
  int64_t permuted_heads =
      0;  // of attn_q and attn_k: rows lie as [heads, D/2, 2], wanted [heads, 2, D/2]; 0: rows stay in place
};

class LlamaFile {
 public:
  // `files` must outlive this object. UserError names file and key when it is not a Llama model, or one with parts
  // that Hugging Face's Llama does not have (gguf_keys.h).
  explicit LlamaFile(const GgufFiles& files);

  const GgufMetadata& metadata() const { return metadata_; }

  // Every tensor of the model, in Hugging Face order. UserError lists what is missing, left over or of
  // another shape.
  std::vector<GgufMapping> map_tensors();
  // For the user: keys that nobody is known to read; empty: none.
  const std::string& note() const { return note_; }
  // The keys of config.json that metadata and tensors tell.
  void add_config(Json& config) const;

 private:
  void read_shape();
  int64_t kv_head_count() const;
  double rope_theta() const;
  void add(const std::string& gguf, const std::string& name, const std::vector<int64_t>& shape,
           int64_t permuted_heads = 0);
  void add_layer(int64_t index);
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  std::optional<double> rope_factor() const;
  Json rope_scaling() const;
  Json llama3_scaling(const GgufTensor& factors) const;

  const GgufFiles& files_;
  GgufMetadata metadata_;
  std::map<std::string, const GgufTensor*> tensors_;
  LlamaShape shape_{};
  std::vector<GgufMapping> mappings_;
  std::set<std::string> used_;
  std::string note_;
  ProblemList problems_;
};

}  // namespace ithaca
