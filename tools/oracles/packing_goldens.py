#!/usr/bin/env python3
"""Makes tests/golden/data/packing: a tiny Llama folder, a .jsonl whose documents are longer and shorter than a row, and expected.json, the
evaluation loss of transformers over it with and without packing.

    packing_goldens.py [--check]        --check compares with what is there instead of writing it

Without packing a document is a row of its own, cut at cutoff_len; with packing the documents lie one after another in rows of cutoff_len, and what is
behind the end of a row goes on in the next one as a document of its own. Each document ends with eos; a document's first token is predicted by nothing.
"""
import argparse
import importlib.metadata
import json
import pathlib
import sys

import torch
import transformers
from tokenizers import Tokenizer

PINNED = {"torch": "2.11.0", "transformers": "5.23.0", "tokenizers": "0.23.3"}
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "data" / "packing"
CUTOFF_LEN = 24
EOS = 1
TEXTS = ["oar", "the siren at dawn sang of bread and wine", "home", "", "sail by night, and the storm behind", "an island of goats!!!!!!",
         "salt", "wax for the ears of the crew; a rope for mine, and the mast"]


def character_tokenizer():
    vocabulary = {text: number for number, text in enumerate(["<s>", "</s>", "<unk>"])}
    added = [{"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for text, number in vocabulary.items()]
    for code in range(ord(" "), ord("~") + 1):
        vocabulary[chr(code)] = len(vocabulary)
    return {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocabulary, "merges": []}}


def make_model():
    torch.manual_seed(7)
    config = transformers.LlamaConfig(vocab_size=98, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                                      num_key_value_heads=1, max_position_embeddings=64, bos_token_id=0, eos_token_id=EOS, initializer_range=0.3,
                                      tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config).float().eval()


def loss_of(model, pieces):
    """(mean loss, labels) over token lists that do not see one another."""
    total, labels = 0.0, 0
    with torch.inference_mode():
        for piece in pieces:
            if len(piece) < 2:
                continue
            ids = torch.tensor([piece])
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            labels += len(piece) - 1
    return {"eval_loss": round(total / labels, 6), "eval_tokens": labels}


def packed(documents):
    pieces, at = [], 0
    for document in documents:
        while document:
            room = CUTOFF_LEN - at % CUTOFF_LEN
            pieces.append(document[:room])
            at += len(pieces[-1])
            document = document[room:]
    return pieces


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for name, version in PINNED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != version:
            sys.exit(f"error: {name} {found}, expected {version}")
    tokenizer_json = json.dumps(character_tokenizer())
    tokenizer = Tokenizer.from_str(tokenizer_json)
    documents = [tokenizer.encode(text, add_special_tokens=False).ids + [EOS] for text in TEXTS]
    model = transformers.LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval() if check else make_model()
    expected = {"cutoff_len": CUTOFF_LEN, "documents": len(documents), "tokens": sum(map(len, documents)),
                "documents_cut": sum(len(d) > CUTOFF_LEN for d in documents), "tokens_unused": sum(max(len(d) - CUTOFF_LEN, 0) for d in documents),
                "documents_without_labels": sum(len(d) < 2 for d in documents),
                "rows": loss_of(model, [d[:CUTOFF_LEN] for d in documents]), "packed": loss_of(model, packed(documents))}
    if check:
        found = json.loads((FOLDER / "expected.json").read_text())
        print("equal" if found == expected else f"differs: {found} {expected}")
        sys.exit(found != expected)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    (FOLDER / "tokenizer.json").write_text(tokenizer_json)
    (FOLDER / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}\n')
    (FOLDER / "docs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
