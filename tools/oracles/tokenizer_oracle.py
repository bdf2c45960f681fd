#!/usr/bin/env python3
"""Compares `ithaca tokenize` with Hugging Face's `tokenizers`, token by token.

    tokenizer_oracle.py --program build/cpu/bin/ithaca DIR TEXT [TEXT ...]

DIR holds tokenizer.json. A .jsonl (key text) is compared row by row, any other file as one document. Exit code 1 at a difference.
Needs: pip install tokenizers==0.23.3
"""
import argparse
import json
import pathlib
import subprocess
import sys

import tokenizers

TOKENIZERS_VERSION = "0.23.3"


def documents(path):
    data = path.read_bytes()
    if path.suffix != ".jsonl":
        return [data.decode("utf-8", errors="replace")]
    return [json.loads(line)["text"] for line in data.split(b"\n") if line.strip()]


def first_difference(oracle, expected, found):
    at = next((i for i, pair in enumerate(zip(expected, found)) if pair[0] != pair[1]), min(len(expected), len(found)))
    show = lambda ids: [oracle.id_to_token(i) for i in ids[max(0, at - 3) : at + 5]]
    return f"token {at} of {len(expected)} / {len(found)}: expected ...{show(expected)}, found ...{show(found)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the ithaca program; `tokenize` is added")
    parser.add_argument("--add_special_tokens", action="store_true")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    if tokenizers.__version__ != TOKENIZERS_VERSION:
        sys.exit(f"tokenizers {tokenizers.__version__} is installed; this check is pinned to {TOKENIZERS_VERSION}")

    oracle = tokenizers.Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    oracle.no_truncation()
    oracle.no_padding()
    failures = 0
    for path in options.texts:
        command = [options.program, "tokenize", str(options.folder), str(path)]
        command += ["--add_special_tokens"] if options.add_special_tokens else []
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
        rows = documents(path)
        if not rows or len(rows) != len(lines):
            sys.exit(f"{path}: {len(rows)} documents, {len(lines)} lines of ids")
        count = 0
        for row, (text, line) in enumerate(zip(rows, lines)):
            expected = oracle.encode(text, add_special_tokens=options.add_special_tokens).ids
            found = [int(word) for word in line.split()]
            count += len(expected)
            if expected != found:
                failures += 1
                print(f"{options.folder} {path} row {row}: {first_difference(oracle, expected, found)}")
                break
        else:
            print(f"{options.folder} {path}: {count} tokens equal")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
