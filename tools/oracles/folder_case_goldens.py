#!/usr/bin/env python3
"""Writes tests/golden/folder_cases: a tiny Llama with its tokenizer, the same tied and in shards, split GGUF files of it, a
text, and what transformers makes of them.

Pinned: transformers 5.23.0, torch 2.11.0, tokenizers 0.23.3, gguf 0.19.0. Run from the repository's root in the oracle
environment; the files are committed.
"""
import json
import os
import pathlib
import random
import shutil
import tempfile

import gguf
import numpy
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

assert transformers.__version__ == "5.23.0", transformers.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
OUT = pathlib.Path("tests/golden/folder_cases")
PROMPT = "home sail"
CUTOFF = 48
# Changes of config.json that leave transformers' numbers as they are, or not: either way they must be its numbers.
PATCHES = {
    "no architectures": {"architectures": None},
    "LlamaModel": {"architectures": ["LlamaModel"]},
    "dtype torch.float32": {"dtype": "torch.float32"},
    "torch_dtype bf16": {"dtype": None, "torch_dtype": "bf16"},
    "eos -1": {"eos_token_id": -1},
    "eos list": {"eos_token_id": [1, 249]},
    "eos null": {"eos_token_id": None},
    "infinity": {"unread": {"__float__": "Infinity"}},
    "swish": {"hidden_act": "swish"},
    "head_dim null": {"head_dim": None},
    "older rope": {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "newer rope": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    "window of another family": {"sliding_window": 4},
    "mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 5},
    "mistral by its type": {"model_type": "mistral", "sliding_window": 5},
    "mistral, full layers": {"model_type": "mistral", "sliding_window": 5, "layer_types": ["full_attention"] * 2},
    "pretraining_tp": {"pretraining_tp": 4},
}
GENERATION = [
    {"file": None, "config": {}, "words": ["--max_new_tokens", "12"]},
    {"file": {"bos_token_id": 0, "eos_token_id": [1, "SECOND"]}, "config": {}, "words": ["--max_new_tokens", "12"]},
    {"file": None, "config": {"eos_token_id": [1, "SECOND"]}, "words": ["--max_new_tokens", "12"]},
    {"file": {"eos_token_id": 1}, "config": {"eos_token_id": "SECOND"}, "words": ["--max_new_tokens", "12"]},
    {"file": {"eos_token_id": 1, "max_new_tokens": 4}, "config": {}, "words": []},
    {"file": {"eos_token_id": 1, "max_length": 9}, "config": {}, "words": []},
    {"file": {"eos_token_id": 1, "repetition_penalty": 1.8, "do_sample": True, "temperature": 0.6, "top_p": 0.9}, "config": {},
     "words": ["--max_new_tokens", "12"]},
    {"file": None, "config": {"repetition_penalty": 1.8}, "words": ["--max_new_tokens", "12"]},
    {"file": {"eos_token_id": 1}, "config": {"repetition_penalty": 1.8}, "words": ["--max_new_tokens", "12"]},
    {"file": {"eos_token_id": [1, "SECOND"], "min_new_tokens": 8}, "config": {}, "words": ["--max_new_tokens", "12"]},
]


def words(count, seed):
    source = random.Random(seed)
    syllables = ["ha", "lo", "mi", "re", "sto", "ven", "kur", "pel", "nat", "ol", "sai", "bry"]
    vocabulary = ["".join(source.choices(syllables, k=source.randint(1, 3))) for _ in range(150)] + PROMPT.split()
    lines = []
    while count > 0:
        length = source.randint(4, 12)
        lines.append(" ".join(source.choices(vocabulary, k=length)))
        count -= length
    return "\n".join(lines) + "\n"


def make_tokenizer(folder, text):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=["<s>", "</s>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return tokenizer


def make_model(folder, tied, shards=None):
    torch.manual_seed(11 + tied)
    config = LlamaConfig(vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, initializer_range=0.25,
                         tie_word_embeddings=tied, bos_token_id=0, eos_token_id=1, dtype="float32")
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    return model


def rows(tokenizer, text):
    ids = tokenizer.encode(text).ids + [1]
    return [ids[i:i + CUTOFF] for i in range(0, len(ids), CUTOFF)]


def mean_loss(folder, tokenizer, text):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, count = 0.0, 0
    for row in rows(tokenizer, text):
        ids = torch.tensor([row])
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += len(row) - 1
    return total / count


def patched(folder, target, patch):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config.update(patch)
    (target / "config.json").write_text(json.dumps(config))
    return target


def text_of(folder, tokenizer, one, target):
    patched(folder, target, one["config"])
    os.remove(target / "generation_config.json")
    if one["file"] is not None:
        (target / "generation_config.json").write_text(json.dumps(one["file"]))
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode(PROMPT).ids])
    options = {"max_new_tokens": int(one["words"][1])} if one["words"] else {}
    tokens = model.generate(ids, do_sample=False, pad_token_id=0, **options)[0, ids.shape[1]:].tolist()
    return tokens, PROMPT + tokenizer.decode(tokens, skip_special_tokens=True)


def rotary_order(weight, heads):
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_splits(model, tokenizer):
    """Two parts as gguf-split makes them: the second has no metadata but its own."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    names = {"embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
             "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    tensors = []
    for name, weight in state.items():
        target = next(new for old, new in names.items() if f"{old}.weight" in name)
        if ".layers." in name:
            target = f"blk.{name.split('.')[2]}.{target}"
        if target.endswith("attn_q") or target.endswith("attn_k"):
            weight = rotary_order(weight, 4 if target.endswith("attn_q") else 2)
        tensors.append((f"{target}.weight", numpy.ascontiguousarray(weight)))
    parts = [tensors[:8], tensors[8:]]
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(OUT / f"split-{number + 1:05d}-of-00002.gguf", "llama")
        if number == 0:
            add_metadata(writer, tokenizer)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", len(parts))
        writer.add_int32("split.tensors.count", len(tensors))
        for name, weight in part:
            writer.add_tensor(name, weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def add_metadata(writer, tokenizer):
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary] + [f"[PAD{i}]" for i in range(len(vocabulary), 384)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 2 else 1 if i < len(vocabulary) else 5 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def main():
    transformers.logging.set_verbosity_error()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    text = words(350, 5)
    (OUT / "eval.txt").write_text(text)
    tokenizer = make_tokenizer(OUT / "model", words(4000, 5))
    model = make_model(OUT / "model", False)
    make_model(OUT / "tied", True, "60KB")
    index = json.loads((OUT / "tied/model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weight"] = sorted(set(index["weight_map"].values()))[-1]
    (OUT / "tied/model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    write_splits(model, tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        loss = {"model": mean_loss(OUT / "model", tokenizer, text), "tied": mean_loss(OUT / "tied", tokenizer, text)}
        for number, (name, patch) in enumerate(PATCHES.items()):
            loss[name] = mean_loss(patched(OUT / "model", scratch / f"loss{number}", patch), tokenizer, text)
        plain, _ = text_of(OUT / "model", tokenizer, GENERATION[0], scratch / "plain")
        second = next(token for i, token in enumerate(plain) if 3 <= i and token not in plain[:i])
        generation = []
        for number, one in enumerate(GENERATION):
            one = json.loads(json.dumps(one).replace('"SECOND"', str(second)))
            tokens, continued = text_of(OUT / "model", tokenizer, one, scratch / f"text{number}")
            generation.append({**one, "tokens": tokens, "text": continued})
    goldens = {"eval_loss": loss, "patches": PATCHES, "prompt": PROMPT, "generation": generation}
    (OUT / "goldens.json").write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main()
