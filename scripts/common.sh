# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder (bash, sourced): where things are, and how we speak.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ITHACA_CACHE=${ITHACA_CACHE:-$HOME/.cache/ithaca}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

has_nvidia_driver() { [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; }
