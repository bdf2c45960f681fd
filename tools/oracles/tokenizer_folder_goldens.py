#!/usr/bin/env python3
"""Writes tests/golden/text/folders.json: what transformers' AutoTokenizer makes of the files beside a tokenizer.json.

    tokenizer_folder_goldens.py tests/golden/text

Every case is a folder with llama3.json of that folder as its tokenizer.json (changed by "replace"), and the files of "files". Kept are the ids of a few
texts, and bos and eos. "error" cases are refused there. Needs: pip install transformers==5.23.0 tokenizers==0.23.3
"""
import json
import os
import pathlib
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
import tokenizers
import transformers

VERSIONS = {"transformers": "5.23.0", "tokenizers": "0.23.3"}
TEXTS = ["<s>The mine <x> and  <y>line <|end|> 12", "mine, <pad> oars<x>", " <y> <x> "]
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def config(**keys):
    return {"tokenizer_config.json": {**FAST, **keys}}


def both(first, **files):
    return {**first, **{name + ".json": value for name, value in files.items()}}


CASES = {
    "plain": config(),
    "no_config": {},
    "bos_and_eos": config(bos_token="<s>", eos_token="<|end|>"),
    "bos_in_the_vocabulary_becomes_an_added_token": config(bos_token="mine"),
    "bos_nowhere": config(bos_token="<x>"),
    "bos_with_flags": config(bos_token=typed("<x>", lstrip=True, rstrip=True)),
    "flags_of_a_known_token_stay": config(bos_token=typed("<s>", lstrip=True, rstrip=True)),
    "seven_names": config(mask_token="<6>", cls_token="<5>", pad_token="<pad>", sep_token="<y>", unk_token="<x>", eos_token="<1>", bos_token="<0>"),
    "additional": config(additional_special_tokens=["<y>", "<x>"]),
    "extra_before_additional": config(additional_special_tokens=["<y>"], extra_special_tokens=["<x>", typed("<pad>", lstrip=True)]),
    "extra_object": config(extra_special_tokens={"image_token": "<x>", "audio": "<y>"}),
    "other_names": config(video_token="<y>", image_token="<x>", pad_token="<pad>"),
    "decoder_new": config(added_tokens_decoder={"342": token("<x>", lstrip=True, rstrip=True, special=True)}),
    "decoder_order_is_by_id": config(added_tokens_decoder={"1000": token("<x>", special=False), "999": token("<y>", special=True)}),
    "decoder_other_flags": config(added_tokens_decoder={"340": token("<s>", lstrip=True, special=True)}),
    "decoder_other_text": config(added_tokens_decoder={"340": token("<x>", special=True)}),
    "decoder_gives_a_name_its_flags": config(pad_token="<x>", added_tokens_decoder={"342": token("<x>", lstrip=True, special=True)}),
    "decoder_single_word": config(added_tokens_decoder={"342": token("oars", single_word=True, special=False, normalized=True)}),
    "added_json": both(config(), added_tokens={"<y>": 343, "<x>": 342}),
    "added_json_special_by_name": both(config(pad_token="<x>"), added_tokens={"<y>": 343, "<x>": 342}),
    "added_json_beside_decoder": both(config(added_tokens_decoder={}), added_tokens={"<x>": 342}),
    "map_before_config": both(config(bos_token="<|end|>"), special_tokens_map={"bos_token": "<s>", "eos_token": "<|end|>"}),
    "map_beside_decoder": both(config(bos_token="<|end|>", added_tokens_decoder={}), special_tokens_map={"bos_token": "<s>", "eos_token": "<x>"}),
    "map_alone": {"special_tokens_map.json": {"bos_token": {"content": "<s>", "lstrip": True}, "additional_special_tokens": ["<x>"], "pad_token": {"content": "<y>", "rstrip": True}}},
    "map_null": both(config(eos_token="<|end|>"), special_tokens_map={"eos_token": None}),
    "map_extra_list": both(config(extra_special_tokens=["<y>"]), special_tokens_map={"extra_special_tokens": ["<x>", {"content": "<pad>"}]}),
    "split_special_tokens": config(split_special_tokens=True, bos_token="<s>", added_tokens_decoder={"342": token("<x>", special=False)}),
    "flags_without_effect": config(add_bos_token=True, add_eos_token=True, bos_token="<s>", eos_token="<|end|>", add_prefix_space=True, do_lower_case=True, legacy=False,
                                   model_max_length=3, padding_side="left", clean_up_tokenization_spaces=True),
    "eos_list": config(eos_token=["<|end|>"]),
    "eos_number": config(eos_token=1),
}


def run(folder, base, files):
    directory = pathlib.Path(tempfile.mkdtemp(dir=folder))
    (directory / "tokenizer.json").write_text(base)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    except TypeError:
        return {"files": files, "error": True}
    return {
        "files": files, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "size": len(tokenizer),
        "ids": [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS],
        "ids_special": [tokenizer.encode(text) for text in TEXTS],
        "decoded_skip": [tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) for text in TEXTS],
    }


def main():
    for module in (transformers, tokenizers):
        if module.__version__ != VERSIONS[module.__name__]:
            sys.exit(f"{module.__name__} {module.__version__} is installed; this script is pinned to {VERSIONS[module.__name__]}")
    goldens = pathlib.Path(sys.argv[1])
    base = (goldens / "llama3.json").read_text()
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: run(folder, base, files) for name, files in CASES.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    (goldens / "folders.json").write_text(f'{{"texts": {json.dumps(TEXTS)},\n"cases": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
