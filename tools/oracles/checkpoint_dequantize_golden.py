"""Makes tests/golden/checkpoint/dequantize.safetensors: random blocks of each ggml type and what the gguf package makes of them.

Run: python tools/oracles/checkpoint_dequantize_golden.py tests/golden/checkpoint/dequantize.safetensors
Pinned: gguf 0.19.0, numpy, safetensors 0.8.0. Scales are finite float16 (zero, subnormal and both signs among them).
"""

import importlib.metadata
import sys

import numpy as np
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

PINNED = {"gguf": "0.19.0", "safetensors": "0.8.0"}
# byte positions of the float16 scales in a block
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}


def finite_halves(rng, count):
    values = np.frombuffer(rng.integers(0, 256, 2 * count, dtype=np.uint8).tobytes(), dtype=np.float16).copy()
    values[~np.isfinite(values)] = np.float16(-0.37)
    values[:5] = np.array([0.0, -0.0, 6e-8, -5e-5, 65504.0], dtype=np.float16)[: len(values[:5])]
    return values


def main(path):
    for package, version in PINNED.items():
        if importlib.metadata.version(package) != version:
            sys.exit(f"{package} {importlib.metadata.version(package)} found, {version} pinned")
    rng = np.random.default_rng(20261122)
    tensors = {}
    for name in ["F32", "F16", "BF16", *SCALES]:
        elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        count = 512 if elements == 1 else (24 if elements == 32 else 6)
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if name == "F16":
            blocks = finite_halves(rng, count).view(np.uint8).reshape(count, size)
        if name in ("F32", "BF16"):
            blocks[:, -1] &= 0xBF  # no exponent of ones: finite
        for position in SCALES.get(name, []):
            blocks[:, position : position + 2] = finite_halves(rng, count).view(np.uint8).reshape(count, 2)
        flat = blocks.reshape(1, -1)
        with np.errstate(over="ignore"):
            values = quants.dequantize(flat, GGMLQuantizationType[name])
        tensors[f"{name}.blocks"] = flat.reshape(-1)
        tensors[f"{name}.values"] = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    save_file(tensors, path, metadata={"made_by": "checkpoint_dequantize_golden.py", "gguf": PINNED["gguf"]})


if __name__ == "__main__":
    main(sys.argv[1])
