#!/usr/bin/env bash
# Builds with CUDA and runs what needs a GPU.   scripts/gpu.sh test|bench|build|compiler
#   build     only builds: no GPU is needed, and of the wheels only those of a CPU build, which hold libtorch_cuda.so too
#   compiler  only says, by its exit code, whether nvcc is here
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
what=${1:?test, bench, build or compiler}
[ -z "${CUDACXX:-}" ] && [ -x /usr/local/cuda/bin/nvcc ] && export CUDACXX=/usr/local/cuda/bin/nvcc
command -v "${CUDACXX:-nvcc}" >/dev/null || die "no nvcc on PATH, in /usr/local/cuda/bin or in CUDACXX: install the CUDA 13 toolkit; nothing was run"
[ "$what" != compiler ] || exit 0
[ "$what" = build ] || has_nvidia_driver || die "no NVIDIA GPU here (no driver is loaded): nothing was run"
cd "$ROOT"
parts=(build) options=()
if [ "$what" = bench ]; then
  parts+=(bench)
  options+=(-DITHACA_BENCH=ON)
fi
[ -z "${TORCH_ROOT:-}" ] || options+=("-DTORCH_ROOT=$TORCH_ROOT")
if [ "$what" = build ]; then
  scripts/setup.sh build
  make --no-print-directory preset-cuda TARGETS="ithaca ithaca-engine kernels_gpu_test"
  exit
fi
ITHACA_TORCH=cuda scripts/setup.sh "${parts[@]}"
cmake --preset cuda "${options[@]}"
cmake --build --preset cuda -j "$(nproc)"
case $what in
  test) scripts/test.sh cuda -L gpu -j 1 ;;
  bench) bench/run.sh gpu ;;
  *) die "unknown '$what': expected test, bench, build or compiler" ;;
esac
