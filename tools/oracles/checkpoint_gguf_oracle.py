"""A folder made by `ithaca convert` against transformers' own GGUF loader: every tensor, the config and the tokenizer.

Run: python tools/oracles/checkpoint_gguf_oracle.py MODEL.gguf DIR [TEXT_FILE ...]
DIR was written with --dtype float32. Tensors must be equal exactly. Token ids are compared on the text files and on a list of hard
strings; where the GGUF's pre-tokenizer is one that transformers' loader does not know (smollm), it falls back to GPT-2's, so strings with
digits outside ASCII may differ there: such strings are shown, and only ASCII ones count.
"""

import importlib.metadata
import sys
from pathlib import Path

PINNED = {"transformers": "5.23.0", "gguf": "0.19.0", "tokenizers": None, "torch": "2.11.0"}
for package, version in PINNED.items():
    found = importlib.metadata.version(package).split("+")[0]
    if version and found != version:
        sys.exit(f"{package} {found} found, {version} pinned")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HARD = [
    "Hello 123 world", "  two spaces, 3.14159 and 2024-11-22", "a1b22c333", "tabs\tand\n\n\nlines\r\n", "don't we'll I'M",
    "naïve café ﬁ", "中文没有空格，2024年", "🦙 emoji 👨‍👩‍👧", "<|im_start|>user\nHi<|im_end|>\n", "", " ", "x" * 300,
    "½ ² ³ ٣ Ⅷ", "price ²",
]


def compare_models(gguf, folder):
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    a, b = theirs.state_dict(), ours.state_dict()
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    print(f"tensors: {len(a)} compared, {len(different)} differ {different[:5]}")
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_parameters", "bos_token_id",
                "eos_token_id", "pad_token_id"):
        x, y = getattr(theirs.config, key, None), getattr(ours.config, key, None)
        if x != y:
            print(f"config: {key}: transformers {x}, ours {y}")
    ids = torch.arange(40).reshape(1, -1) * 37 % theirs.config.vocab_size
    with torch.no_grad():
        same = torch.equal(theirs(ids).logits, ours(ids).logits)
    print(f"logits equal: {same}")
    return not different and same


def compare_tokenizers(gguf, folder, texts):
    theirs = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    ours = AutoTokenizer.from_pretrained(folder)
    different = 0
    for text in HARD:
        for special in (False, True):
            a, b = (t.encode(text, add_special_tokens=special) for t in (theirs, ours))
            if a != b:
                print(f"tokenizer: {text!r}: transformers {a}, ours {b}")
                different += text.isascii()
            if ours.decode(b) != theirs.decode(b):
                print(f"tokenizer: decode of {text!r} differs")
                different += 1
    for path in texts:
        text = Path(path).read_text(encoding="utf-8")
        a, b = (t.encode(text, add_special_tokens=False) for t in (theirs, ours))
        print(f"tokenizer: {path}: {len(b)} tokens, {'equal' if a == b else 'DIFFERENT'}")
        different += a != b
    for name in ("bos_token", "eos_token", "unk_token", "pad_token", "chat_template"):
        if getattr(theirs, name) != getattr(ours, name):
            print(f"tokenizer: {name}: transformers {getattr(theirs, name)!r}, ours {getattr(ours, name)!r}")
            different += 1
    return different == 0


if __name__ == "__main__":
    gguf_path, folder_path = Path(sys.argv[1]), Path(sys.argv[2])
    results = [compare_models(gguf_path, folder_path), compare_tokenizers(gguf_path, folder_path, sys.argv[3:])]
    print("PASS" if all(results) else "FAIL")
    sys.exit(0 if all(results) else 1)
