#!/usr/bin/env python3
"""clang-tidy on what changed, in bounded time, and never silently less.

  tools/tidy.py --build build/cpu [--base COMMIT] [--seconds 1200] [--jobs N] [FILE...]

Base: --base, else the commit of the last clean CI run on this machine (CACHE/last-green), else origin/main where it differs from HEAD; else
every file, the last commit's first. What is not committed counts as changed. A changed header is checked through a source that includes it.
A finding fails the run where there is a base; without one nothing is known to have changed, and findings are only shown. Files that were not reached
in time do not fail it. Those and files with findings are remembered in CACHE/tidy.json; the next run on this machine begins with them. A file found
clean is remembered there by its content and not checked again.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLANG_TIDY = "clang-tidy-14"


def git(*arguments):
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def cache_folder():
    return pathlib.Path(os.environ.get("ITHACA_CACHE", pathlib.Path.home() / ".cache/ithaca"))


def find_base(given):
    if given:
        if not git("rev-parse", "--verify", given + "^{commit}"):
            sys.exit(f"error: --base {given}: no such commit here")
        return given
    head = git("rev-parse", "HEAD")
    if not head:
        sys.exit(f"error: git finds no commit in {ROOT}: what changed is unknown (a clone of another user needs safe.directory)")
    stamp = cache_folder() / "last-green"
    green = stamp.read_text().split() if stamp.exists() else []
    for commit in (green, git("merge-base", "HEAD", "origin/main")):
        if commit and commit != head and git("merge-base", commit[0], "HEAD") == git("rev-parse", commit[0]):
            return commit[0]
    return None


def changed_files(base):
    uncommitted = git("diff", "--name-only", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    if base:
        return uncommitted + git("diff", "--name-only", base, "HEAD")
    return uncommitted + git("diff", "--name-only", "HEAD~1", "HEAD") + git("ls-files")


def sources_to_check(changed, compiled):
    """Those of `compiled` (path -> command) that changed, or that stand for a changed header; in the order of `changed`: path -> its changed headers."""
    chosen = {}
    for name in dict.fromkeys(changed):
        path = ROOT / name
        if path in compiled:
            chosen.setdefault(path, set())
        elif path.suffix == ".h" and path.exists():
            own = path.with_suffix(".cpp")
            include = re.compile(rf'#include "(ithaca/)?{re.escape(name.removeprefix("src/ithaca/"))}"')
            users = [own] if own in compiled else [source for source in compiled if include.search(source.read_text(errors="replace"))][:1]
            for user in users:
                chosen.setdefault(user, set()).add(name)
    return chosen


class Ledger:
    """What is known of earlier runs: the keys of clean files, and the files (with their changed headers) that a run did not reach or found fault with."""

    def __init__(self, path):
        self.path = path
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.clean = known.get("clean", {})  # key -> when, in seconds
        self.owed = known.get("owed", {})  # source -> headers, relative to ROOT

    @staticmethod
    def key(source, headers):
        """The content of the source, its own header and the changed headers it stands for, and the rules."""
        names = [source, source.with_suffix(".h"), *(ROOT / name for name in sorted(headers)), ROOT / ".clang-tidy"]
        return hashlib.sha256(b"\0".join(name.read_bytes() for name in names if name.exists())).hexdigest()

    def first(self, chosen, compiled):
        """`chosen` without what is known to be clean, what is owed first."""
        self.owed = {name: headers for name, headers in self.owed.items() if ROOT / name in compiled}
        owed = {ROOT / name: set(headers) for name, headers in self.owed.items()}
        for path, headers in chosen.items():
            owed.setdefault(path, set()).update(headers)
        return {path: headers for path, headers in owed.items() if self.key(path, headers) not in self.clean}

    def record(self, results):
        """results: (path, headers, clean) of a run; those of 90 days ago are forgotten."""
        for path, headers, clean in results:
            name = str(path.relative_to(ROOT))
            if clean:
                self.clean[self.key(path, headers)] = int(time.time())
                self.owed.pop(name, None)
            else:
                self.owed[name] = sorted(headers)
        self.clean = {key: when for key, when in self.clean.items() if when > time.time() - 90 * 86400}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"clean": self.clean, "owed": self.owed}), encoding="utf-8")
        temporary.replace(self.path)


def clang_command(entry, headers):
    """The compile command as clang takes it: no ccache, and the precompiled header as the plain header it was made from."""
    words = shlex.split(entry["command"])
    start = next(i for i, word in enumerate(words) if re.search(r"(g\+\+|clang\+\+|c\+\+)(-\d+)?$", word))
    words, kept, skip = words[start:], [], False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word in ("-fpch-preprocess", "-Winvalid-pch", "-Werror"):
            pass
        elif word == "-include" and words[i + 1].endswith("cmake_pch.hxx"):
            plain = headers / f"{abs(hash(words[i + 1]))}.h"
            plain.write_text(pathlib.Path(words[i + 1]).read_text())
            kept += ["-include", str(plain)]
            skip = True
        else:
            kept.append(word)
    return shlex.join(kept)


def check(path, database, seconds):
    """(path, the findings, "" if clean, None if there was no time)."""
    if seconds <= 0:
        return path, None
    try:
        done = subprocess.run([CLANG_TIDY, "--quiet", "-p", database, str(path)], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return path, None
    noise = re.compile(r"^\d+ (warnings?|errors?) (generated|treated)|^Suppressed|^Use -(header|system)|^$")
    output = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not noise.match(line))
    return path, output or f"{CLANG_TIDY} ended with {done.returncode}" if done.returncode else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/cpu", help="the build folder with compile_commands.json")
    parser.add_argument("--base", help="the commit to compare with")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", help="check these instead")
    options = parser.parse_args()

    database = pathlib.Path(options.build, "compile_commands.json")
    if not database.exists():
        sys.exit(f"error: {database} is missing: configure first (cmake --preset cpu)")
    with open(database, encoding="utf-8") as file:
        compiled = {pathlib.Path(entry["file"]).resolve(): entry for entry in json.load(file)}
    compiled = {path: entry for path, entry in compiled.items() if path.is_relative_to(ROOT) and not path.is_relative_to(database.parent.resolve())}
    base = None if options.files else find_base(options.base)
    ledger = Ledger(cache_folder() / "tidy.json")
    if options.files:
        files = {path: set() for path in (pathlib.Path(name).resolve() for name in options.files) if path in compiled}
        print(f"{len(files)} of the {len(options.files)} files named are compiled here")
    else:
        chosen = sources_to_check(changed_files(base), compiled)
        files = ledger.first(chosen, compiled)
        print(f"{len(files)} source files to check: {'changed since ' + base[:12] if base else 'no base to compare with, so all of them'}"
              f", and {len(ledger.owed)} owed by earlier runs, less those known to be clean", flush=True)

    deadline = time.monotonic() + options.seconds
    findings, unreached, results = 0, [], []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        headers = pathlib.Path(folder)
        entries = [{**compiled[path], "command": clang_command(compiled[path], headers)} for path in files]
        (headers / "compile_commands.json").write_text(json.dumps(entries))
        for path, output in pool.map(lambda path: check(path, folder, deadline - time.monotonic()), files):
            results.append((path, files[path], output == ""))
            if output is None:
                unreached.append(str(path.relative_to(ROOT)))
            elif output:
                findings += 1
                print(output, flush=True)
    ledger.record(results)
    print(f"clang-tidy: {len(files) - len(unreached)} files checked, {findings} with findings, {len(unreached)} NOT reached in {options.seconds:.0f} s")
    for name in unreached:
        print(f"  not reached, first in the next run: {name}")
    if findings and not base and not options.files:
        print("there is no green commit to compare with: these findings do not fail this run, but the next that has one")
        return 0
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
