#!/usr/bin/env python3
"""What tools/tidy.py remembers between runs, on files of its own in a temporary folder.   tools/tidy_test.py"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tidy


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"tidy_test: {what}: expected {expected}, found {found}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        tidy.ROOT = root = pathlib.Path(folder)
        a, b, c = (root / name for name in ("a.cpp", "b.cpp", "c.cpp"))
        for path in (a, b, c):
            path.write_text(path.name)
        (root / "x.h").write_text("x")
        compiled = {a: None, b: None, c: None}
        path = root / "cache/tidy.json"

        ledger = tidy.Ledger(path)
        expect("a first run checks what changed", list(ledger.first({a: set(), b: {"x.h"}}, compiled)), [a, b])
        ledger.record([(a, set(), True), (b, {"x.h"}, False)])  # b was not reached

        ledger = tidy.Ledger(path)
        expect("what was not reached comes first, what is clean not at all", ledger.first({c: set(), a: set()}, compiled), {b: {"x.h"}, c: set()})
        expect("in this order", list(ledger.first({c: set(), a: set()}, compiled)), [b, c])
        ledger.record([(b, {"x.h"}, True), (c, set(), True)])

        ledger = tidy.Ledger(path)
        expect("nothing is owed any more", ledger.first({a: set(), b: {"x.h"}, c: set()}, compiled), {})
        (root / "x.h").write_text("y")
        expect("another content of a changed header", list(ledger.first({b: {"x.h"}}, compiled)), [b])
        a.write_text("other")
        expect("another content of a source", list(ledger.first({a: set()}, compiled)), [a])
        (root / ".clang-tidy").write_text("Checks: more")
        expect("other rules", list(ledger.first({c: set()}, compiled)), [c])
        ledger.record([(c, set(), False)])
        expect("a file that is gone is owed no longer", tidy.Ledger(path).first({}, {a: None}), {})
    print("tidy_test: passed")


if __name__ == "__main__":
    main()
