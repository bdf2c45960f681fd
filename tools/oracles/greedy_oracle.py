"""Prints transformers' greedy continuation of each prompt, in float32, one JSON object a line, to compare with `ithaca generate`.

    python tools/oracles/greedy_oracle.py FOLDER MAX_NEW_TOKENS PROMPT [PROMPT ...]

FOLDER is a Hugging Face model folder (`ithaca convert model.gguf FOLDER`). Prompts are encoded without special tokens. Plain argmax, written out
here: the folder's generation_config (penalties, sampling) plays no part; a line ends after an eos token of config.json.
"""

import importlib.metadata
import json
import sys

PINNED = {"torch": "2.11.0", "transformers": "5.23.0"}


def greedy(model, ids, eos, count):
    import torch

    out, cache, step = [], None, torch.tensor([ids])
    while len(out) < count:
        result = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache, token = result.past_key_values, int(result.logits[0, -1].argmax())
        out.append(token)
        if token in eos:
            break
        step = torch.tensor([[token]])
    return out


def main():
    if len(sys.argv) < 4:
        sys.exit("usage: greedy_oracle.py FOLDER MAX_NEW_TOKENS PROMPT [PROMPT ...]")
    for name, wanted in PINNED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != wanted:
            sys.exit(f"{name} {found} found; this oracle speaks for {wanted}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, count = sys.argv[1], int(sys.argv[2])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    eos = model.config.eos_token_id
    eos = set(eos if isinstance(eos, list) else [eos])
    with torch.inference_mode():
        for prompt in sys.argv[3:]:
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            out = greedy(model, ids, eos, count)
            print(json.dumps({"prompt": prompt, "prompt_ids": ids, "continuation_ids": out, "text": tokenizer.decode(out)}), flush=True)


if __name__ == "__main__":
    main()
