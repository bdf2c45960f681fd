#!/usr/bin/env bash
# All benchmarks of a built tree.   bench/run.sh cpu|gpu   Figures worth keeping go to bench/results, with the machine they come from.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
cd "$ROOT"
case ${1:-} in
  cpu) build=build/bench ;;
  gpu) build=build/cuda ;;
  *) die "expected cpu or gpu" ;;
esac
mapfile -t programs < <(find "$build/bench" -maxdepth 2 -type f -name '*_bench' -perm -u+x | sort)
[ ${#programs[@]} -gt 0 ] || say "no *_bench program in $build/bench"
for program in "${programs[@]}"; do
  say "$program"
  "$program"
done
if [ "$1" = cpu ]; then
  scripts/setup.sh demo
  ITHACA=$ROOT/$build/bin/ithaca scripts/demo.sh prepare
  bench/peers/run.sh --ithaca "$ROOT/$build/bin/ithaca"
fi
