#!/usr/bin/env python3
"""Writes tests/golden/text/regexes.json: which characters Oniguruma's classes hold, and what its expressions match.

    regex_goldens.py OUTPUT

A class is measured over every code point; kept are the number of members and the SHA-256 of its ranges ("41-5a 61-7a ", hexadecimal). An expression
is kept with a text and the text with "<>" in place of each match. Needs: pip install tokenizers==0.23.3
"""
import hashlib
import json
import pathlib
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

TOKENIZERS_VERSION = "0.23.3"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODE_POINTS))
POSIX = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()
CLASSES = (
    [f"[[:{name}:]]" for name in POSIX] + [f"[[:^{name}:]]" for name in ("alpha", "punct", "word")]
    + [rf"\{c}" for c in "dDhHsSwWNO"] + ["."]
    + [rf"\p{{{name}}}" for name in "L Lu Ll Lt Lm Lo M Mn N Nd No P Pd S Sc Z C Cn Alnum Word Punct Graph Print PosixPunct Han Hiragana Latin Greek Common"
       " Alphabetic Uppercase Emoji Ideographic ID_Start Garay Unknown Any Assigned In_Greek_and_Coptic LC".split()]
    + [r"\P{L}", r"\p{^N}", r"[\W_]", r"[^\W\d]", r"[^\s\p{L}\p{N}]", r"[\p{L}&&[^\p{Han}]]", r"[^\p{L}&&\p{ASCII}]", r"[[:alpha:]&&[^a-z]&&\p{Latin}]", r"[[a-f][^b-\x{ffff}]]",
       r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"(?i)[a-z]", r"(?i)[^a-z]", r"(?i)[[:lower:]]", r"(?i)[^[:lower:]]", r"(?i)\p{Lu}", r"(?i)[k\u00e5]", r"(?i)[\p{Greek}&&\p{Lu}]", r"(?i)\u1e9e"]
)
CASES = [
    (r"\w+", ["e\u0301a-b_1", "home²sail x\u203fy ⓐ"]), (r"\s", ["a\u180e b\u3000\u200b"]), (r"\bhome\b", ["home, homes ²home home"]), (r"\Bo", ["o foo o\u0301o"]),
    (r"\h+", ["x 1fA g"]), (r"\p{N}{1,3}+", ["12345"]), (r"\p{N}{1,3}", ["12345678 x9"]), (r"(?m:a.b)", ["a\nb"]), (r"a{,2}b", ["aaab"]), (r"a{2}?", ["aaaaa"]),
    (r"a{2}{3}", ["aaaaaaa"]), (r"a{2,3}+", ["aaaaaaa"]), (r"a*?+", ["aaa"]), (r"a++b", ["aaab"]), (r"a?+a", ["aa a"]), (r"a**", ["aaa"]), (r"a{ 2}", ["aa{ 2}"]), (r"a{0}b", ["ab"]),
    (r"a{b", ["a{b"]), (r"x$", ["x\nx"]), (r"^x", ["x\nx\nx\n"]), (r"^", ["a\n"]), (r"\Ax", ["x\nx"]), (r"x\Z", ["x\nx\n"]), (r"x\z", ["x\nx"]), (r"\Gx", ["xxyx"]), (r"a\Kb", ["ab b"]),
    (r"\R", ["a\r\nb\n\u2028\x85"]), (r"\N\O", ["a\n"]), (r"b*", ["abc"]), (r"(?<=a|bc)d", ["ad bcd cd"]), (r"(?<!a)d", ["ad cd"]), (r"\s+(?!\S)|\s+", ["a   b  "]), (r"(?>a+)b|a", ["aaab aa"]),
    (r"a(?i)b|c", ["aB C c ac aC"]), (r"a(?i)b|c(?-i)d|e", ["aB cd CD e E acd aCd ae"]), (r"((?i)a)b", ["AbAB"]), (r"a(?i:b)c", ["aBc aBC"]), (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", ["'S 'ſ 'T 'rE 'LL 'D"]),
    ("(?x) a b # c\n d", ["abd"]), (r"(?x)[a b]", ["ab c"]), (r"(?x)a +", ["aaa b"]), (r"(?x: a b )c d", ["abc d"]), (r"(?#x\)y)a", ["a"]),
    (r"(a)(b)\2\1", ["abba"]), (r"(?<n>a)(b)\k<n>", ["aba"]), (r"(?'n'a)\k'n'", ["aa"]), (r"(a)\k<1>", ["aa"]), (r"(a)(b)\k<-1>", ["abb"]), (r"(a)\11", ["a\t aa1"]),
    (r"(?i)ss", ["ss ß SS ẞ ſs"]), (r"(?i)ß", ["ss ß SS ẞ"]), (r"(?i)[ß]", ["ss ß SS ẞ"]), (r"(?i)\A[\p{L}]\z", ["ss", "x"]), (r"(?i)\A\p{L}\z", ["ss", "x"]), (r"(?i)ffi", ["ﬃ ﬀi fﬁ ffi"]),
    (r"(?i)fi", ["ﬁ ﬃ Fi"]), (r"(?i)ss+", ["ß ss"]), (r"(?i)sss", ["ßs sß sss"]), (r"(?i)ßs", ["sss ßs"]), (r"(?i)[ﬀ-ﬄ]", ["ff fi ffi ﬃ"]), (r"(?i)(?<=ss)a", ["ßa ssa SSa"]), (r"(?i)\u0390", ["\u0390 \u1fd3 \u03b9\u0308\u0301"]),
    (r"[a-c-e]", ["abcde-"]), (r"[--a]", ["-.a"]), (r"[a-]", ["a-"]), (r"[a-&&b]", ["ab-"]), (r"[a&&]", ["ab"]), (r"[^&&a]", ["ab"]), (r"[^a&&b]", ["abc"]), (r"[a-z&&[^aeiou]]+", ["abcde"]),
    (r"[a-z&&^a]", ["abc^"]), (r"[[a-c][x-z]]", ["abxyq"]), (r"[^[a-c][x-z]]", ["abxyq"]), (r"[]a]", ["]a"]), (r"[^]a]", ["]ab"]), (r"[]&&]]", ["]a"]), (r"[[a]-z]", ["a-zb"]), (r"[[:digit:]-]", ["1-"]),
    (r"[:alpha:]", ["alph:x"]), (r"[a]]", ["a]]"]), (r"[\b\R\X\K\N]", ["\bRXKNb\n"]), (r"[\e\a\f\v\t\n\r]", ["\x1b\x07\x0c\x0b\t\n\r"]), (r"[\d&&[^5]]", ["4567"]), (r"([^\S\r\n]|-)+", ["a \t\n- b"]),
    (r"\xC3\xA9", ["é"]), (r"[\xC3\xA9x]", ["éx"]), (r"\x{e9}\u00e9", ["éé"]), (r"\303\251", ["é"]), (r"\101\012\0", ["A\n\0"]), (r"\o{101}\cA\C-b", ["A\1\2"]), (r"\pL", ["a pL"]), (r"\Qa.b\E", ["a.b QaxbE"]), (r"\-\#\é\i", ["-#éi"]),
    (r"\p{L}+", ["näive iͅs Ⅳ \U00010D50\u1C89 海上"]), (r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", ["The  \U000323B0海, 1234 ½²  $x\r\n\n end "]),
]
REFUSED = [r"[a-\d]", r"[\d-a]", r"[[:alpha:]-z]", "[]", "[^]", "[a", "[z-a]", "[[:foo:]]", "[[:Alpha:]]", r"\p{Nosuch}", r"\p{", r"\x85", r"\xc3", r"\u00", "(", ")", "\\", "*a", "a|*", "^*a", r"\b+a", "(?=a)*a", "(?s).",
           "(?a)x", "(?P<n>a)", "(?|a|b)", r"(a)\2", r"(?<n>a)(b)\1", "(?(1)a|b)"]


def ranges(pattern):
    found, end = [], 0
    for _, (begin, stop) in pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed").pre_tokenize_str(TEXT):
        if begin > end:
            found.append((end, begin))
        end = stop
    if end < len(TEXT):
        found.append((end, len(TEXT)))
    return found


def members(pattern):
    text, count = "", 0
    for begin, end in ranges(pattern):
        count += end - begin
        first, last = CODE_POINTS[begin], CODE_POINTS[end - 1]
        if first < 0xD800 and last >= 0xE000:
            text += f"{first:x}-d7ff {0xe000:x}-{last:x} "
        else:
            text += f"{first:x}-{last:x} "
    return {"pattern": pattern, "count": count, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def is_refused(pattern):
    try:
        normalizers.Replace(Regex(pattern), "<>").normalize_str("a")
        return False
    except Exception:
        return True


def main():
    if tokenizers.__version__ != TOKENIZERS_VERSION:
        sys.exit(f"tokenizers {tokenizers.__version__} is installed; this script is pinned to {TOKENIZERS_VERSION}")
    accepted = [pattern for pattern in REFUSED if not is_refused(pattern)]
    if accepted:
        sys.exit(f"Oniguruma accepts {accepted}")
    golden = {
        "classes": [members(pattern) for pattern in CLASSES],
        "matches": [{"pattern": pattern, "text": text, "replaced": normalizers.Replace(Regex(pattern), "<>").normalize_str(text)} for pattern, texts in CASES for text in texts],
        "refused": REFUSED,
    }
    lines = ",\n".join(f'"{key}": [\n' + ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in golden[key]) + "\n]" for key in golden)
    pathlib.Path(sys.argv[1]).write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
