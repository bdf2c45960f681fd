#!/usr/bin/env python3
"""clang-tidy on what changed, in bounded time, and never silently less.

  tools/tidy.py --build build/cpu [--base COMMIT] [--seconds 1200] [--jobs N] [FILE...]

Base: --base, else the commit of the last clean CI run on this machine (CACHE/last-green), else origin/main where it differs from HEAD; else
every file, the last commit's first. What is not committed counts as changed. A changed header is checked through a source that includes it.
Files that were not reached in time are counted and named; they do not fail the run, a finding does, where there is a base: without one nothing is known to
have changed, and findings are only shown.
"""
import argparse
import concurrent.futures
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


def find_base(given):
    if given:
        if not git("rev-parse", "--verify", given + "^{commit}"):
            sys.exit(f"error: --base {given}: no such commit here")
        return given
    head = git("rev-parse", "HEAD")
    if not head:
        sys.exit(f"error: git finds no commit in {ROOT}: what changed is unknown (a clone of another user needs safe.directory)")
    cache = pathlib.Path(os.environ.get("ITHACA_CACHE", pathlib.Path.home() / ".cache/ithaca"))
    stamp = cache / "last-green"
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
    """Those of `compiled` (path -> command) that changed, or that stand for a changed header; in the order of `changed`."""
    chosen = {}
    for name in dict.fromkeys(changed):
        path = ROOT / name
        if path in compiled:
            chosen[path] = None
        elif path.suffix == ".h" and path.exists():
            own = path.with_suffix(".cpp")
            include = re.compile(rf'#include "(ithaca/)?{re.escape(name.removeprefix("src/ithaca/"))}"')
            users = [own] if own in compiled else [source for source in compiled if include.search(source.read_text(errors="replace"))][:1]
            chosen.update(dict.fromkeys(users))
    return list(chosen)


def clang_command(entry, headers):
    """The compile command as clang takes it: no ccache, and the precompiled header as the plain header it was made from."""
    words = shlex.split(entry["command"])
    start = next(i for i, word in enumerate(words) if re.search(r"(g\+\+|clang\+\+|c\+\+)(-\d+)?$", word))
    words, kept, skip = words[start:], [], False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word in ("-fpch-preprocess", "-Winvalid-pch"):
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
    if options.files:
        files = [path for path in (pathlib.Path(name).resolve() for name in options.files) if path in compiled]
        print(f"{len(files)} of the {len(options.files)} files named are compiled here")
    else:
        files = sources_to_check(changed_files(base), compiled)
        print(f"{len(files)} source files to check: {'changed since ' + base[:12] if base else 'no base to compare with, so all of them'}", flush=True)

    deadline = time.monotonic() + options.seconds
    findings, unreached = 0, []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        headers = pathlib.Path(folder)
        entries = [{**compiled[path], "command": clang_command(compiled[path], headers)} for path in files]
        (headers / "compile_commands.json").write_text(json.dumps(entries))
        for path, output in pool.map(lambda path: check(path, folder, deadline - time.monotonic()), files):
            if output is None:
                unreached.append(str(path.relative_to(ROOT)))
            elif output:
                findings += 1
                print(output, flush=True)
    print(f"clang-tidy: {len(files) - len(unreached)} files checked, {findings} with findings, {len(unreached)} NOT reached in {options.seconds:.0f} s")
    for name in unreached:
        print(f"  not reached: {name}")
    if findings and not base and not options.files:
        print("there is no green commit to compare with: these findings do not fail the run, the next change of their files will")
        return 0
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
