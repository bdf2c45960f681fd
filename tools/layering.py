#!/usr/bin/env python3
"""The house's rules, checked: who may include whom, which words stay in which room, how large a file may be.

  tools/layering.py [ROOT]     prints each breach as FILE:LINE: what, why; exit code 1 if there is any

The table is docs/architecture.md in data. Words are looked for in code: comments and strings may explain what the code may not know.
"""
import pathlib
import re
import sys

# What each room may include, beside itself, the standard library and its outside libraries. "room" is all of its headers, "room/x.h" that one.
MAY_KNOW = {
    "base": [],
    "config": ["base"],
    "comm": ["base"],
    "kernels": ["base"],
    "nn": ["base", "kernels", "config"],
    "models": ["base", "kernels", "nn", "config"],
    "text": ["base"],
    "data": ["base", "text"],
    "optim": ["base", "kernels"],
    "launch": ["base", "config"],
    "checkpoint": ["base", "config", "comm", "nn/parameter.h", "models/registry.h"],
    "parallel": ["base", "config", "comm", "kernels", "nn", "models/decoder.h", "data/batch.h", "optim"],
    "planner": ["base", "config", "parallel/plan.h", "comm/cost.h"],
    "eval": ["base", "config", "comm", "kernels", "nn", "models", "text", "data", "optim", "checkpoint", "parallel"],
    "train": ["base", "config", "comm", "kernels", "nn", "models", "text", "data", "optim", "checkpoint", "parallel", "eval", "planner",
              "launch/environment.h"],
}
# CMake links whole rooms: these stand for the single headers above, and "formats" and "documents" are the halves of checkpoint and data that know no torch.
LINKS_BEYOND = {"checkpoint": ["nn", "models", "formats"], "formats": ["base", "config"], "data": ["documents"], "documents": ["base"], "parallel": ["models", "data"], "planner": ["parallel", "comm"]}
TORCH_FREE = {"base", "config", "text", "launch", "planner"}
SINGLE_DEVICE = {"base", "kernels", "nn", "models"}

# (rule, pattern in code, rooms it holds for, files that are exempt and why)
WORDS = [
    ("a single-device room knows no rank, mesh, process group or Communicator",
     r"\b(\w*_)?ranks?(_\w*)?\b|\bworld_size\b|\b\w*[mM]esh\w*\b|\bprocess_?group\w*|\bProcessGroup\w*|\bCommunicators?\b", SINGLE_DEVICE,
     {"base/log.h": "a log line names its rank", "base/log.cpp": "a log line names its rank",
      "base/rank_environment.h": "a value: launch reads it, comm needs it, and these two may not know each other"}),
    ("only comm names gloo, nccl or c10d", r"(?i)\b\w*(gloo|nccl|c10d)\w*", set(MAY_KNOW) - {"comm"}, {}),
    ("no static initialiser fills a registry", r"^\s*(static\s+)?(const\s+)?(bool|int|auto)\s+\w*regist\w*\s*(=|\{)", set(MAY_KNOW), {}),
    ("no mutable global", r"^(static|inline|extern|thread_local)\s+(?!const\b|constexpr\b|inline\b)[\w:<>,\s*&]+?\b\w+\s*(=[^=].*|\{\}|)\s*;$", set(MAY_KNOW), {}),
]
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(work|var/tmp|home/\w+|root|Users/\w+)/\w")
MAX_LINES = 800
SOURCES = {".h", ".cpp", ".cu", ".cuh"}
TEXTS = SOURCES | {".py", ".sh", ".md", ".txt", ".cmake", ".yaml", ".json", ""}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def code_only(text):
    """The text without comments and the contents of strings; line numbers stay."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return re.sub(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', blank, text, flags=re.S)


def room_of(relative):
    parts = relative.parts
    return parts[2] if parts[:2] == ("src", "ithaca") and len(parts) > 3 else None


def may_include(room, header):
    """header: relative to src/ithaca."""
    other = header.split("/")[0]
    return other == room or other in MAY_KNOW[room] or header in MAY_KNOW[room]


def check_includes(relative, text, report):
    room = room_of(relative)
    is_header = relative.suffix in {".h", ".cuh"}
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(2)
        if name == "torch/torch.h":
            report(number, "<torch/torch.h>: 16 s and 1 GB per file; include the operator's own header")
        if name in ("ATen/ATen.h", "torch/all.h") and is_header:
            report(number, f"<{name}> in a header: use <ATen/core/Tensor.h>")
        if name.startswith(("spdlog/", "fmt/")) and room != "base":
            report(number, f"<{name}>: spdlog and fmt stay in base (libtorch brings another fmt)")
        if name.startswith("cli/") and relative.parts[0] not in ("cli", "tests"):
            report(number, "nothing includes cli")
        if room and room in TORCH_FREE and name.startswith(("ATen/", "torch/", "c10/")):
            report(number, f"<{name}>: {room} is built without torch")
        if room and name.startswith("ithaca/") and not may_include(room, name.removeprefix("ithaca/")):
            report(number, f"{room} may not know {name.removeprefix('ithaca/')}; it knows {', '.join(MAY_KNOW[room]) or 'nothing'}")


def check_words(relative, text, report):
    room = room_of(relative)
    inside = "/".join(relative.parts[2:]) if room else None
    for rule, pattern, rooms, exempt in WORDS:
        if room not in rooms or inside in exempt:
            continue
        for number, line in enumerate(code_only(text).splitlines(), 1):
            match = None if INCLUDE.match(line) else re.search(pattern, line)
            if match:
                report(number, f"{rule}: '{match.group(0).strip()}'")


def check_links(relative, text, report):
    """The DEPS of ithaca_room() must be allowed as well."""
    for match in re.finditer(r"ithaca_room\(NAME\s+(\w+)(.*?)\)", text, re.S):
        room, body = match.groups()
        number = text[:match.start()].count("\n") + 1
        if room not in MAY_KNOW and room not in LINKS_BEYOND:
            report(number, f"room {room} is not in the table of tools/layering.py")
            continue
        found = re.search(r"\bDEPS\s+([\w\s]*?)(?=\b[A-Z]{3,}\b|$)", body)
        allowed = {header.split("/")[0] for header in MAY_KNOW.get(room, [])} | set(LINKS_BEYOND.get(room, []))
        for other in found.group(1).split() if found else []:
            if other not in allowed:
                report(number, f"target {room} may not link {other}")


def tracked_files(root):
    ignored = {".git", "build", "output", "__pycache__", "third_party"}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and not ignored & set(relative.parts) and path.suffix in TEXTS:
            yield path, relative


def breaches(root):
    found = []
    for path, relative in tracked_files(root):
        def report(number, what, where=relative):
            found.append(f"{where}:{number}: {what}")
        text = path.read_text(encoding="utf-8", errors="replace")
        golden = relative.parts[:2] == ("tests", "golden")
        if relative.suffix in SOURCES | {".py", ".sh"}:
            lines = text.count("\n")
            if lines > MAX_LINES:
                report(lines, f"{lines} lines, at most {MAX_LINES}: split it")
        if relative.suffix in SOURCES:
            if room_of(relative) and room_of(relative) not in MAY_KNOW:
                report(1, f"room {room_of(relative)} is not in the table of tools/layering.py")
                continue
            check_includes(relative, text, report)
            check_words(relative, text, report)
        if relative.name == "CMakeLists.txt":
            check_links(relative, text, report)
        if not golden and relative.parts[0] != "tools" or relative.parts[:2] == ("tools", "oracles"):
            for number, line in enumerate(text.splitlines(), 1):
                if MACHINE_PATH.search(line):
                    report(number, f"a path of one machine: {MACHINE_PATH.search(line).group(0)}...")
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    found = breaches(root)
    print("\n".join(found) if found else "layering: no breach")
    if not any(relative.suffix in SOURCES for _, relative in tracked_files(root)):
        sys.exit(f"error: no sources under {root}: nothing was checked")
    large = [(path.read_text(errors="replace").count("\n"), relative) for path, relative in tracked_files(root) if relative.suffix in SOURCES]
    for lines, relative in sorted(large, reverse=True)[:5]:
        if lines > 350:
            print(f"note: {relative} has {lines} lines")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
