#!/usr/bin/env python3
"""Writes src/ithaca/text/library_tables.cpp: the characters that parts of Hugging Face's `tokenizers` take for digits, punctuation, marks and words.

    unicode_tables.py OUTPUT

Measured code point by code point; the library's own tables come from several releases of Unicode. Needs: pip install tokenizers==0.23.3
"""
import pathlib
import sys

import tokenizers
from tokenizers import normalizers, pre_tokenizers

TOKENIZERS_VERSION = "0.23.3"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODE_POINTS))


def runs(pre_tokenizer, is_member):
    """Members of a set whose runs the pre-tokenizer cuts out; `is_member` looks at one character of a piece."""
    found = set()
    for piece, (begin, end) in pre_tokenizer.pre_tokenize_str(TEXT):
        if is_member(piece[0]):
            found.update(CODE_POINTS[begin:end])
    return found


def numeric():
    return runs(pre_tokenizers.Digits(individual_digits=False), lambda c: len(pre_tokenizers.Digits(True).pre_tokenize_str("a" + c)) == 2)


def punctuation():
    kept = set()
    for _, (begin, end) in pre_tokenizers.Punctuation("removed").pre_tokenize_str(TEXT):
        kept.update(CODE_POINTS[begin:end])
    return set(CODE_POINTS) - kept


def mark():
    return set(CODE_POINTS) - set(map(ord, normalizers.StripAccents().normalize_str(TEXT)))


def word():
    return runs(pre_tokenizers.Whitespace(), lambda c: len(pre_tokenizers.Whitespace().pre_tokenize_str("a" + c)) == 1)


def ranges(members):
    found = []
    for c in sorted(members):
        if found and (found[-1][1] == c - 1 or (c == 0xE000 and found[-1][1] == 0xD7FF)):
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def table(name, members):
    lines, line = [], "   "
    for first, last in ranges(members):
        item = f" {{0x{first:X}, 0x{last:X}}},"
        if len(line) + len(item) > 150:
            lines.append(line)
            line = "   "
        line += item
    return f"constexpr Range {name}[] = {{\n" + "\n".join(lines + [line]) + "};\n"


def main():
    if tokenizers.__version__ != TOKENIZERS_VERSION:
        sys.exit(f"tokenizers {tokenizers.__version__} is installed; this script is pinned to {TOKENIZERS_VERSION}")
    tables = "\n".join(table(name, members()) for name, members in (("kNumeric", numeric), ("kPunctuation", punctuation), ("kMarks", mark), ("kWords", word)))
    pathlib.Path(sys.argv[1]).write_text(
        f"""// Made by tools/oracles/unicode_tables.py from tokenizers {TOKENIZERS_VERSION}; not edited by hand.
#include "ithaca/text/library_tables.h"

namespace ithaca::library {{
namespace {{

// clang-format off
{tables}// clang-format on

}}  // namespace

std::span<const Range> numeric() {{
  return kNumeric;
}}
std::span<const Range> punctuation() {{
  return kPunctuation;
}}
std::span<const Range> marks() {{
  return kMarks;
}}
std::span<const Range> words() {{
  return kWords;
}}

}}  // namespace ithaca::library
"""
    )


if __name__ == "__main__":
    main()
