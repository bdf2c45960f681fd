#!/usr/bin/env bash
# A Python environment with pinned packages, for tests and benchmarks only.   scripts/python_env.sh FOLDER REQUIREMENTS...
# Its torch is the Python half of the libtorch that the build uses: no second download, no CUDA libraries. On a machine without them that half
# still links to them; empty libraries of their names let it load, and calling one would end the process.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
venv=$(realpath -m "${1:?a folder}")
shift
torch_root=$(realpath "${TORCH_ROOT:-$ITHACA_CACHE/torch-2.11.0}")
python=${ITHACA_PYTHON:-/usr/bin/python3}
tag=$("$python" -c 'import sys; print("cpython-%d%d" % sys.version_info[:2])')
ls "$torch_root/torch/_C.$tag-"*.so >/dev/null 2>&1 ||
  die "$torch_root holds no torch for $("$python" --version), only for $(cd "$torch_root/torch" && echo _C.*.so). Wheels are pinned for Python 3.11 to" \
    "3.13: set ITHACA_PYTHON to one of those; where the folder was unpacked for another, remove it and run scripts/setup.sh again"

rm -rf "$venv"
"$python" -m venv "$venv"
mkdir "$venv/stubs"
if [ ! -e "$torch_root/nvidia/cudnn" ]; then
  : >"$venv/stubs/empty.c"
  for name in cublas.so.13 cublasLt.so.13 cudnn.so.9 cufft.so.12 cufile.so.0 curand.so.10 cusparse.so.12 cusparseLt.so.0 nccl.so.2 \
    nvshmem_host.so.3; do
    gcc -shared -Wl,-soname,"lib$name" -o "$venv/stubs/lib$name" "$venv/stubs/empty.c"
  done
fi
"$venv/bin/python" - "$torch_root" "$venv/stubs" <<'PYTHON'
import pathlib, sys, sysconfig
torch_root, stubs = sys.argv[1:]
site = pathlib.Path(sysconfig.get_path("purelib"))
(site / "torch_root.pth").write_text(f"{torch_root}\nimport cuda_stubs\n")
(site / "cuda_stubs.py").write_text(f"""import ctypes, os, pathlib, sys
sys.setdlopenflags(os.RTLD_LAZY)
for library in pathlib.Path({stubs!r}).glob("lib*"):
    ctypes.CDLL(str(library), os.RTLD_LAZY)
""")
PYTHON
for requirements in "$@"; do
  "$venv/bin/pip" install -q --disable-pip-version-check --no-cache-dir --no-build-isolation --require-hashes --no-deps -r "$requirements"
done
"$venv/bin/python" -W ignore -c 'import torch; assert torch.ones(2).sum() == 2'
cat "$@" >"$venv/.wheels"
