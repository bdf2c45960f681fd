#!/usr/bin/env python3
"""Writes tests/golden/generation/cases.json: which token follows under generation_config.json's rules.

Pinned: transformers 5.23.0, torch 2.11.0. Run from the repository's root in the oracle environment; the file is committed.
Each case holds scores of a vocabulary of 12, a prompt, what was generated and the rules; `next` is the likeliest token after
transformers' own logits processors (a model whose head gives those scores is asked for one token more).
"""
import json
import pathlib

import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

assert transformers.__version__ == "5.23.0", transformers.__version__
assert torch.__version__.startswith("2.11.0"), torch.__version__

VOCABULARY = 12
RULES = [
    {},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.4},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"suppress_tokens": [3, 5]},
    {"begin_suppress_tokens": [7, 2, 9]},
    {"bad_words_ids": [[4], [1, 6], [2, 5, 8]]},
    {"bad_words_ids": [[0], [7]]},
    {"min_new_tokens": 4, "eos_token_id": [7, 2]},
    {"min_length": 6, "eos_token_id": 7},
    {"forced_bos_token_id": 6},
    {"forced_bos_token_id": 6, "begin_suppress_tokens": [7, 2]},
    {"forced_eos_token_id": [5, 4]},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "suppress_tokens": [1], "min_new_tokens": 3, "eos_token_id": 9,
     "bad_words_ids": [[9, 9], [3]]},
    {"do_sample": False, "temperature": 0.1, "top_k": 1, "top_p": 0.1},
]
PROMPTS = [[3], [1, 6, 1], [2, 5, 2, 5, 8, 1], [7, 7, 9, 4, 7, 7]]


def scores_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, generator=generator) * 3


class Fixed(LlamaForCausalLM):
    """Gives the same scores at each place."""

    def forward(self, input_ids=None, **kwargs):
        logits = self.scores.repeat(input_ids.shape[0], input_ids.shape[1], 1)
        return transformers.modeling_outputs.CausalLMOutputWithPast(logits=logits)


def main():
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                         num_attention_heads=1, bos_token_id=None, eos_token_id=None)
    model = Fixed(config)
    cases = []
    for number, rules in enumerate(RULES):
        for prompt in PROMPTS:
            for seed in range(3):
                model.scores = scores_of(100 * number + seed)
                options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, **rules}
                model.generation_config = GenerationConfig(pad_token_id=0, use_cache=False, **options)
                tokens = model.generate(torch.tensor([prompt]))[0, len(prompt):].tolist()
                cases.append({"rules": options, "prompt": prompt, "scores": model.scores.tolist(), "tokens": tokens})
    out = pathlib.Path("tests/golden/generation/cases.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
