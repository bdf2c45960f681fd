"""safetensors both ways against the reference package (safetensors 0.8.0, torch 2.11.0).

  write FILE   makes tests/golden/checkpoint/reference.safetensors
  read FILE    opens a file that Ithaca wrote and prints name, dtype, shape and SHA-256 of each tensor
"""

import hashlib
import sys

import safetensors
import torch
from safetensors.torch import load_file, save_file

PINNED = {"safetensors": "0.8.0", "torch": "2.11.0"}


def check_versions():
    found = {"safetensors": safetensors.__version__, "torch": torch.__version__.split("+")[0]}
    if found != PINNED:
        sys.exit(f"versions differ: found {found}, pinned {PINNED}")


def write(path):
    dtypes = {
        "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64, "i32": torch.int32,
        "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
    }
    tensors = {name: torch.ones(3).to(dtype) for name, dtype in dtypes.items()}
    tensors["f32"] = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 2
    tensors["empty"] = torch.zeros(2, 0)
    save_file(tensors, path, metadata={"origin": "reference"})


def read(path):
    for name, tensor in sorted(load_file(path).items()):
        digest = hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"").hexdigest()
        print(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), digest)


if __name__ == "__main__":
    check_versions()
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
