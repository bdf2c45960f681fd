#!/usr/bin/env python3
"""Plants one breach of each rule of layering.py in a small tree and sees that it is found, and that the tree without it is clean."""
import pathlib
import subprocess
import sys
import tempfile

LAYERING = pathlib.Path(__file__).with_name("layering.py")

CLEAN = {
    "src/ithaca/base/error.h": "#pragma once\n// rank and c10d may stand in a comment\n",
    "src/ithaca/base/log.cpp": '#include <spdlog/spdlog.h>\nvoid log(int rank);\n',
    "src/ithaca/nn/linear.h": '#pragma once\n#include <ATen/core/Tensor.h>\n#include "ithaca/nn/parameter.h"\nint r = lora_rnk("rank");\n',
    "src/ithaca/comm/communicator.h": "class Communicator;\nint nccl_version();\n",
    "src/ithaca/checkpoint/hf_folder.h": '#include "ithaca/models/registry.h"\n',
    "src/ithaca/checkpoint/CMakeLists.txt": "ithaca_room(NAME formats SOURCES\n  DEPS base)\nithaca_room(NAME checkpoint TORCH SOURCES a.cpp\n  DEPS formats base models)\n",
    "src/ithaca/train/step.cpp": '#include <ATen/ATen.h>\n#include "ithaca/eval/perplexity.h"\nstatic const int kLimit = 3;\ninline constexpr int kOther = 4;\n',
    "cli/main.cpp": '#include "cli/train.h"\n#include "ithaca/train/trainer.h"\n',
    "docs/architecture.md": "output/" + "work/x and $HOME/" + "work/y are no machine paths\n",
}

# name: (file, content, words that the report must hold)
BREACHES = {
    "a room includes a room above it": ("src/ithaca/nn/a.cpp", '#include "ithaca/models/decoder.h"\n', "nn may not know models/decoder.h"),
    "eval includes train": ("src/ithaca/eval/a.cpp", '#include "ithaca/train/trainer.h"\n', "eval may not know train/trainer.h"),
    "a room includes more than the one header it may": ("src/ithaca/checkpoint/a.cpp", '#include "ithaca/nn/linear.h"\n', "may not know nn/linear.h"),
    "the planner reaches for comm": ("src/ithaca/planner/a.cpp", '#include "ithaca/comm/communicator.h"\n', "planner may not know"),
    "something includes cli": ("examples/a.cpp", '#include "cli/train.h"\n', "nothing includes cli"),
    "torch in a torch-free room": ("src/ithaca/text/a.cpp", "#include <ATen/core/Tensor.h>\n", "built without torch"),
    "torch/torch.h": ("src/ithaca/train/a.cpp", "#include <torch/torch.h>\n", "torch/torch.h"),
    "ATen.h in a header": ("src/ithaca/train/a.h", "#include <ATen/ATen.h>\n", "in a header"),
    "spdlog outside base": ("src/ithaca/comm/a.cpp", "#include <spdlog/spdlog.h>\n", "stay in base"),
    "a rank in a single-device room": ("src/ithaca/models/a.h", "int f(int rank);\n", "knows no rank"),
    "a rank in a name": ("src/ithaca/kernels/a.cpp", "int x = local_rank_;\n", "knows no rank"),
    "a mesh": ("src/ithaca/nn/a.h", "struct DeviceMesh;\n", "'DeviceMesh'"),
    "a process group": ("src/ithaca/nn/a.h", "void f(ProcessGroup& g);\n", "'ProcessGroup'"),
    "a Communicator": ("src/ithaca/base/a.h", "class Communicator;\n", "'Communicator'"),
    "c10d outside comm": ("src/ithaca/parallel/a.cpp", "c10d::Store* s;\n", "only comm names"),
    "nccl in a longer word": ("src/ithaca/train/a.cpp", "ncclComm_t c;\n", "only comm names"),
    "a registry filled at start": ("src/ithaca/models/a.cpp", "static bool registered = add_family();\n", "static initialiser"),
    "a mutable global": ("src/ithaca/train/a.cpp", "static int counter = 0;\n", "mutable global"),
    "a room that is not in the table": ("src/ithaca/attic/a.cpp", "int f();\n", "not in the table"),
    "a target that links what it may not": ("src/ithaca/nn/CMakeLists.txt", "ithaca_room(NAME nn TORCH SOURCES a.cpp\n  DEPS base comm\n  LIBS x)\n", "may not link comm"),
    "a target that is not in the table": ("src/ithaca/attic/CMakeLists.txt", "ithaca_room(NAME attic SOURCES a.cpp)\n", "not in the table"),
    "a file of 801 lines": ("tests/long_test.cpp", "\n" * 801, "801 lines"),
    "a path of one machine": ("docs/a.md", "see /" + "home/somebody/x\n", "a path of one machine"),
}


def run(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        done = subprocess.run([sys.executable, str(LAYERING), folder], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def main():
    failures = []
    code, output = run(CLEAN)
    if code != 0:
        failures.append(f"the clean tree is refused:\n{output}")
    for name, (file, content, words) in BREACHES.items():
        code, output = run({**CLEAN, file: content})
        lines = [line for line in output.splitlines() if line.startswith(f"{file}:")]
        if code != 1 or not any(words in line for line in lines):
            failures.append(f"not found: {name} (exit code {code}):\n{output}")
    print("\n".join(failures) if failures else f"layering_test: all {len(BREACHES)} planted breaches found")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
