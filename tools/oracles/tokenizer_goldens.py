#!/usr/bin/env python3
"""Writes tests/golden/text: tiny tokenizer.json files in the style of each family, with the ids and texts that `tokenizers` gives for them.

    tokenizer_goldens.py tests/golden/text
Needs: pip install tokenizers==0.23.3
"""
import json
import pathlib
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__

WORDS = (
    "the weaver unpicks by night what she wove by day, and the loom waits; the oars are 24 and the years are 20. "
    "we're home, they've sailed, don't you'll I'm it's 12 345 ships. Ithaca has no fields for horses, yet it is mine. "
    "海上的船回家了，母亲在等。船 海 家 e\u0301t\u00e9 stra\u00dfe \u00e9 \U0001F600 foo_bar(x) == 3.14;\n\tline two\r\n\r\n"
)
TEXTS = [
    "", " ", "the loom", " the  loom ", "don't DON'T we'll they've", "12345 678 9", "a\n\n\nb \t c\r\n", "海上的船回家了，海。",
    "e\u0301t\u00e9 \u212b \ufb01 \u017f", "\U0001F600\U0001F468\u200d\U0001F469 \U0001F999", "<s>the</s> <s> x<|end|>y <|end|>", "x" * 300 + " " + "the" * 50,
    "海" * 200, " " * 70 + "z", "\u0301\u0300a", "\x00\x01\u0085\u00a0\u180e\u2028\u3000q", "foo_bar(x)==3.14; [y]", "\u2581a\u2581\u2581b", "wordthe the-word thethe THE",
]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(add_prefix_space=False, use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert=invert)


def train(pre_tokenizer, size, normalizer=None, specials=(), **model):
    tokenizer = Tokenizer(BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if not model.get("byte_fallback") else []
    tokenizer.train_from_iterator([WORDS] * 4, BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=sorted(alphabet), special_tokens=list(specials)))
    return tokenizer


def with_template(tokenizer, before, behind=""):
    ids = {token: tokenizer.token_to_id(token) for token in (before, behind) if token}
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{before} $A {behind}".strip(), pair=f"{before} $A {before} $B", special_tokens=list(ids.items()))


def gpt2():
    tokenizer = train(byte_level(), 330)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=True)])
    return tokenizer


def smollm2():
    tokenizer = train(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]), 330, specials=["<|end|>", "<s>"])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama3():
    tokenizer = train(pre_tokenizers.Sequence([split(LLAMA3), byte_level(use_regex=False)]), 340)
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("<|end|>", normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    with_template(tokenizer, "<s>")
    return tokenizer


def qwen():
    tokenizer = train(pre_tokenizers.Sequence([split(QWEN), byte_level(use_regex=False)]), 330, normalizers.NFC())
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=False, lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("the", single_word=True), AddedToken("\u00e9t", normalized=True)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def deepseek():
    steps = [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"), pre_tokenizers.Digits(True), byte_level(use_regex=False)]
    tokenizer = train(pre_tokenizers.Sequence(steps), 330, normalizers.Sequence([]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.decoder = decoders.ByteLevel()
    with_template(tokenizer, "<s>", "</s>")
    return tokenizer


BYTES = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
SENTENCE_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def sentencepiece():
    options = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = train(pre_tokenizers.Metaspace(), 380, specials=BYTES, **options)
    model = json.loads(tokenizer.to_str())["model"]
    tokenizer = Tokenizer(BPE(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]], **options))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in BYTES[:3]])
    tokenizer.decoder = decoders.Sequence(SENTENCE_DECODER)
    with_template(tokenizer, "<s>")
    return tokenizer


def llama2():
    tokenizer = sentencepiece()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def mistral():
    tokenizer = sentencepiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def odd_parts():
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"), split("[0-9]", "merged_with_next"), split("o+", "contiguous"), split("q", "removed"), pre_tokenizers.Metaspace(prepend_scheme="always")]
    normal = normalizers.Sequence([normalizers.Strip(), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(r"z\w"), "yy")])
    tokenizer = train(pre_tokenizers.Sequence(steps), 200, normal, specials=["<unk>"], unk_token="<unk>")
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def words():
    tokenizer = train(pre_tokenizers.Whitespace(), 200, normalizers.NFKC(), specials=["<unk>"], unk_token="<unk>", fuse_unk=False)
    return tokenizer


FAMILIES = [gpt2, smollm2, llama3, qwen, deepseek, llama2, mistral, odd_parts, words]


def write(folder, build):
    tokenizer = build()
    data = json.loads(tokenizer.to_str())
    if build is gpt2:  # the oldest spelling: merges as one string, no model type
        del data["model"]["type"]
        data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    if build is llama3:
        data["model"]["ignore_merges"] = True
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (folder / f"{build.__name__}.json").write_text(text, encoding="utf-8")
    oracle = Tokenizer.from_str(text)
    cases = []
    for sample in TEXTS:
        ids = oracle.encode(sample, add_special_tokens=False).ids
        special = oracle.encode(sample, add_special_tokens=True).ids
        cases.append({"text": sample, "ids": ids, "ids_special": special, "decoded": oracle.decode(special, skip_special_tokens=False), "decoded_skip": oracle.decode(special)})
    return cases


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    cases = {build.__name__: write(folder, build) for build in FAMILIES}
    (folder / "cases.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
