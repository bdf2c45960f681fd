#!/usr/bin/env bash
# Builds with CUDA and runs what needs a GPU.   scripts/gpu.sh test|bench
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
what=${1:?test or bench}
has_nvidia_driver || die "no NVIDIA GPU here (no driver is loaded): nothing was run"
[ -z "${CUDACXX:-}" ] && [ -x /usr/local/cuda/bin/nvcc ] && export CUDACXX=/usr/local/cuda/bin/nvcc
command -v "${CUDACXX:-nvcc}" >/dev/null || die "no nvcc on PATH, in /usr/local/cuda/bin or in CUDACXX: install the CUDA 13 toolkit; nothing was run"
cd "$ROOT"
parts=(build) options=()
if [ "$what" = bench ]; then
  parts+=(bench)
  options+=(-DITHACA_BENCH=ON)
fi
[ -z "${TORCH_ROOT:-}" ] || options+=("-DTORCH_ROOT=$TORCH_ROOT")
ITHACA_TORCH=cuda scripts/setup.sh "${parts[@]}"
cmake --preset cuda "${options[@]}"
cmake --build --preset cuda -j "$(nproc)"
case $what in
  test) scripts/test.sh cuda -L gpu -j 1 ;;
  bench) bench/run.sh gpu ;;
  *) die "unknown '$what': expected test or bench" ;;
esac
