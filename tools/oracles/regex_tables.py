#!/usr/bin/env python3
"""Writes src/ithaca/text/oniguruma_tables.cpp: what Oniguruma, as built into Hugging Face's `tokenizers`, means by a property or class.

    regex_tables.py [--cache FILE] OUTPUT

Every set is measured, code point by code point, in both engines: Oniguruma through a Split pre-tokenizer, PCRE2 through its library. Where PCRE2
knows the property, only what it lacks is written. PCRE2's tables must be those of Unicode 14.0, the oldest that Ithaca accepts (PCRE2 10.40 to 10.42).
--cache keeps the measured sets. Needs: pip install tokenizers==0.23.3, and libpcre2-8.so.0
"""
import argparse
import ctypes
import json
import pathlib
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

TOKENIZERS_VERSION, PCRE2_UNICODE = "0.23.3", "14.0.0"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODE_POINTS))
CATEGORIES = """c other, cc cntrl control, cf format, cn unassigned, co privateuse, cs surrogate, l letter, lc casedletter, ll lowercaseletter, lm modifierletter,
 lo otherletter, lt titlecaseletter, lu uppercaseletter, m combiningmark mark, mc spacingmark, me enclosingmark, mn nonspacingmark, n number, nd decimalnumber digit,
 nl letternumber, no othernumber, p punctuation punct, pc connectorpunctuation, pd dashpunctuation, pe closepunctuation, pf finalpunctuation,
 pi initialpunctuation, po otherpunctuation, ps openpunctuation, s symbol, sc currencysymbol, sk modifiersymbol, sm mathsymbol, so othersymbol, z separator,
 zl lineseparator, zp paragraphseparator, zs spaceseparator"""
# PCRE2's spelling of what is not a general category, a binary property or a script of the same name there.
SPELLINGS = {"any": "Any", "alpha": "Alphabetic", "lower": "Lowercase", "upper": "Uppercase", "space": "White_Space", "lc": "L&", "assigned": "^Cn"}
POSIX = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()


class Pcre2:
    def __init__(self):
        self.lib = ctypes.CDLL("libpcre2-8.so.0")
        for name in ("pcre2_compile_8", "pcre2_match_data_create_8", "pcre2_get_ovector_pointer_8"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.lib.pcre2_get_ovector_pointer_8.restype = ctypes.POINTER(ctypes.c_size_t)
        version = ctypes.create_string_buffer(64)
        self.lib.pcre2_config_8(10, version)
        if version.value.decode() != PCRE2_UNICODE:
            sys.exit(f"this PCRE2 knows Unicode {version.value.decode()}; the tables are made from {PCRE2_UNICODE}")
        self.text = TEXT.encode()
        self.starts, at = {}, 0
        for index, c in enumerate(CODE_POINTS):
            self.starts[at] = index
            at += 1 if c < 0x80 else 2 if c < 0x800 else 3 if c < 0x10000 else 4
        self.starts[at] = len(CODE_POINTS)

    def ranges(self, item):
        """The members of a class item, None if PCRE2 has no such item."""
        pattern = f"[{item}]++".encode()
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        utf, ucp, no_check = 0x00080000, 0x00020000, 0x40000000
        code = self.lib.pcre2_compile_8(pattern, ctypes.c_size_t(len(pattern)), utf | ucp | no_check, ctypes.byref(error), ctypes.byref(offset), None)
        if not code:
            return None
        self.lib.pcre2_jit_compile_8(ctypes.c_void_p(code), 1)
        data = self.lib.pcre2_match_data_create_8(1, None)
        bounds = self.lib.pcre2_get_ovector_pointer_8(ctypes.c_void_p(data))
        found, at = [], 0
        while self.lib.pcre2_match_8(ctypes.c_void_p(code), self.text, ctypes.c_size_t(len(self.text)), ctypes.c_size_t(at), no_check, ctypes.c_void_p(data), None) > 0:
            found.append((self.starts[bounds[0]], self.starts[bounds[1]]))
            at = bounds[1]
        return found


def oniguruma_ranges(pattern, text=TEXT):
    """Half-open ranges of positions in `text`, None if Oniguruma refuses the pattern."""
    try:
        regex = Regex(f"(?:{pattern})+")
    except Exception:
        return None
    found, end = [], 0
    for _, (begin, stop) in pre_tokenizers.Split(regex, "removed").pre_tokenize_str(text):
        if begin > end:
            found.append((end, begin))
        end = stop
    if end < len(text):
        found.append((end, len(text)))
    return found


def positions(ranges):
    return {i for begin, end in ranges for i in range(begin, end)}


def code_point_ranges(members):
    found = []
    for index in sorted(members):
        c = CODE_POINTS[index]
        if found and (found[-1][1] == c - 1 or (c == 0xE000 and found[-1][1] == 0xD7FF)):
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def property_names():
    """Every name Oniguruma knows: all short lower-case words of the library's own data are tried."""
    import re

    data = pathlib.Path(next(pathlib.Path(tokenizers.__file__).parent.glob("tokenizers*.so"))).read_bytes()
    known = []
    for name in sorted({word.decode() for word in re.findall(rb"(?<![a-z0-9])[a-z0-9]{1,60}(?![a-z0-9])", data)}):
        try:
            Regex(rf"\p{{{name}}}")
            known.append(name)
        except Exception:
            pass
    return known


def sampled_code_points():
    """All but the inside of runs of more than 4,096 of one general category, of which two in 16 are kept."""
    starts = {0}
    for category in CATEGORIES.split(","):
        for begin, end in oniguruma_ranges(rf"\p{{{category.split()[0]}}}"):
            starts |= {begin, end}
    bounds = sorted(starts | {len(CODE_POINTS)})
    kept = []
    for begin, end in zip(bounds, bounds[1:]):
        kept += [i for i in range(begin, end) if end - begin <= 4096 or i - begin < 32 or end - i <= 32 or CODE_POINTS[i] % 16 in (0, 15)]
    return kept


def code_points_of(pattern, sample, text):
    """The set's ranges, measured on the sample; on every code point where that leaves a boundary open."""
    found = []
    for begin, end in oniguruma_ranges(pattern, text):
        for side, outer in ((begin - 1, begin), (end - 1, end)):
            if 0 <= side and outer < len(sample) and sample[outer] != sample[side] + 1:
                return code_point_ranges(positions(oniguruma_ranges(pattern)))
        first, last = CODE_POINTS[sample[begin]], CODE_POINTS[sample[end - 1]]
        found.append([first, last])
    return found


def measure():
    sets = {}
    grid = [c for c in CODE_POINTS if c % 16 == 0]
    sample = sampled_code_points()
    text = "".join(TEXT[i] for i in sample)
    for name in property_names():
        if name.startswith("in") and name not in ("inherited", "inscriptionalpahlavi", "inscriptionalparthian"):  # a block: whole columns
            ranges = oniguruma_ranges(rf"\p{{{name}}}", "".join(map(chr, grid)))
            sets[name] = [[grid[begin], grid[end - 1] + 15] for begin, end in ranges]
        elif not name.startswith("graphemeclusterbreak"):
            sets[name] = code_points_of(rf"\p{{{name}}}", sample, text)
    for name in POSIX:
        sets[f"[:{name}:]"] = code_points_of(f"[[:{name}:]]", sample, text)
    for letter in "dhsw":
        sets["\\" + letter] = code_points_of("\\" + letter, sample, text)
    return sets


def measure_folds():
    """Which characters (?i) takes for one another: classes of code points, and the texts of several characters that one stands for."""
    cased = sorted(positions(oniguruma_ranges(r"[\p{changeswhencasemapped}\p{changeswhencasefolded}]")))
    text = "\0".join(TEXT[i] for i in cased)  # apart, so that no two of them are the text of a third
    classes, seen = [], {"\0"}
    for c in text:
        if c in seen:
            continue
        mates = {text[i] for begin, end in oniguruma_ranges(f"(?i)[\\x{{{ord(c):x}}}]", text) for i in range(begin, end)}
        seen |= mates
        if len(mates) > 1:
            classes.append(sorted(map(ord, mates)))
    texts = {}
    for c in text.replace("\0", ""):
        folded = c.casefold()
        if len(folded) > 1 and normalizers.Replace(Regex(f"(?i)\\A\\x{{{ord(c):x}}}\\z"), "+").normalize_str(folded) == "+":
            texts.setdefault(folded, []).append(ord(c))
    return {"classes": classes, "texts": sorted(texts.items())}


def pcre2_item(name, aliases):
    if name in SPELLINGS:
        return rf"\p{{{SPELLINGS[name]}}}"
    if name in aliases:
        return rf"\p{{{aliases[name].capitalize()}}}"
    return rf"\p{{{name}}}"


def total(ranges):
    return sum(last - first + 1 for first, last in ranges)


def as_positions(ranges, index):
    return {index[c] for first, last in ranges for c in range(first, last + 1) if c in index}


def candidates_of(name, aliases):
    if name[0] in "[\\" or name in ("alnum", "graph", "print", "word", "posixpunct"):
        visible = r"\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Co}"
        return [r"\p{Alphabetic}\p{N}\p{M}\p{Pc}", r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}", r"\p{Alphabetic}\p{Nd}", r"\p{P}\p{S}", visible, visible + r"\p{Zs}", r"\p{Nd}",
                r"\p{Alphabetic}", r"\p{Lowercase}", r"\p{Uppercase}"]
    if name.startswith("in") and name not in ("inherited", "inscriptionalpahlavi", "inscriptionalparthian"):
        return []
    return [pcre2_item(name, aliases), rf"\p{{sc:{name}}}"]


def forms(sets):
    """name -> (negated, PCRE2 item, ranges to add, ranges to take out): the set is that, or all but that."""
    pcre2, index = Pcre2(), {c: i for i, c in enumerate(CODE_POINTS)}
    aliases = {alias: line.split()[0] for line in CATEGORIES.split(",") for alias in line.split()}
    result, items, everything = {}, {}, frozenset(range(len(CODE_POINTS)))
    same = {}
    for name, ranges in sets.items():
        same.setdefault(tuple(map(tuple, ranges)), []).append(name)
    for ranges, names in same.items():
        best = (False, "", [list(r) for r in ranges], [])
        few = 0 < len(ranges) <= 12  # PCRE2 finds few ranges faster than a property
        candidates = [] if few else [item for name in names for item in candidates_of(name, aliases)]
        members = as_positions(ranges, index) if candidates else set()
        for item in candidates:
            if item not in items:
                found = pcre2.ranges(item)
                items[item] = None if found is None else positions(found)
            known = items[item]
            if known is None:
                continue
            trials = [(False, item, code_point_ranges(members - known), code_point_ranges(known - members))]
            if item.count(r"\p") == 1 and not members - known:
                trials.append((True, item.replace(r"\p", r"\P"), code_point_ranges(known - members), []))
            for trial in trials:
                if (len(trial[2]) + len(trial[3]), bool(trial[3])) < (len(best[2]) + len(best[3]), bool(best[3])):
                    best = trial
        for name in names:
            result[name] = best
    return result


def packed(items, width=150):
    lines, line = [], ""
    for item in items:
        if line and len(line) + len(item) + 2 > width:
            lines.append("    " + line)
            line = ""
        line += (", " if line else "") + item
        if line and len(line) > width:
            lines.append("    " + line)
            line = ""
    if line:
        lines.append("    " + line)
    return ",\n".join(lines)


def runs_of_pairs(classes):
    """Pairs (character, mate) as runs {first, last, step, distance}: most alphabets are pairs at one distance."""
    pairs = sorted((a, b - a) for group in classes for a in group for b in group if a != b)
    runs = []
    for distance in sorted({d for _, d in pairs}):
        members = [c for c, d in pairs if d == distance]
        while members:
            first = last = members.pop(0)
            step = next((s for s in (1, 2) if first + s in members), 1)
            while last + step in members:
                last += step
                members.remove(last)
            runs.append((first, last, step, distance))
    return sorted(runs)


def write(path, sets, folds):
    ranges, starts, entries, names = [], {}, [], []
    shared = {}
    for name, (negated, item, extra, lacking) in sorted(forms(sets).items()):
        key = (negated, item, tuple(map(tuple, extra)), tuple(map(tuple, lacking)))
        if key not in shared:
            both = key[2] + key[3]
            if both not in starts:
                starts[both] = len(ranges)
                ranges.extend(both)
            shared[key] = len(entries)
            entries.append('{R"(%s)", %d, %d, %d, %s}' % (item, starts[both], len(extra), len(lacking), "true" if negated else "false"))
        names.append('{"%s", %d}' % (name.replace("\\", "\\\\"), shared[key]))
    texts = ['{U"%s", {%s}}' % ("".join(f"\\U{ord(c):08X}" for c in text), ", ".join(f"0x{c:X}" for c in chars + [0] * (4 - len(chars)))) for text, chars in folds["texts"]]
    runs = ["{0x%X, 0x%X, %d, %d}" % run for run in runs_of_pairs(folds["classes"])]
    path.write_text(
        f"""// Made by tools/oracles/regex_tables.py from tokenizers {TOKENIZERS_VERSION} (Oniguruma, Unicode 16.0) and PCRE2 with Unicode {PCRE2_UNICODE}; not edited by hand.
#include "ithaca/text/oniguruma_tables.h"

namespace ithaca::oniguruma {{
namespace {{

// clang-format off
constexpr Range kRanges[] = {{
{packed(["{0x%X, 0x%X}" % tuple(r) for r in ranges])}}};

constexpr Set kSets[] = {{
{packed(entries)}}};

constexpr NamedSet kNames[] = {{
{packed(names)}}};

constexpr FoldRun kFolds[] = {{
{packed(runs)}}};

constexpr FoldText kFoldTexts[] = {{
{packed(texts)}}};
// clang-format on

}}  // namespace

std::span<const Range> ranges() {{
  return kRanges;
}}
std::span<const Set> sets() {{
  return kSets;
}}
std::span<const NamedSet> names() {{
  return kNames;
}}
std::span<const FoldRun> folds() {{
  return kFolds;
}}
std::span<const FoldText> fold_texts() {{
  return kFoldTexts;
}}

}}  // namespace ithaca::oniguruma
""",
        encoding="utf-8",
    )
    print(f"{len(names)} names, {len(entries)} sets, {len(ranges)} ranges, {len(runs)} fold runs, {len(texts)} folded texts, at most {max(len(c) for _, c in folds['texts'])} characters each")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    if tokenizers.__version__ != TOKENIZERS_VERSION:
        sys.exit(f"tokenizers {tokenizers.__version__} is installed; this script is pinned to {TOKENIZERS_VERSION}")
    if options.cache and options.cache.exists():
        data = json.loads(options.cache.read_text())
    else:
        data = {"sets": measure(), "folds": measure_folds()}
        if options.cache:
            options.cache.write_text(json.dumps(data))
    write(options.output, data["sets"], data["folds"])


if __name__ == "__main__":
    main()
