#!/usr/bin/env bash
# Runs each libFuzzer target of the parsers for a while.   scripts/fuzz.sh [SECONDS EACH, default 600] [TARGET...]
# Inputs found are kept in the cache folder; one that breaks a parser is left beside them as crash-*, and the script fails.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
seconds=${1:-600}
shift || true
scripts/setup.sh build clang
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(nproc)"
if [ $# -gt 0 ]; then
  programs=("${@/#/build/fuzz/tests/fuzz/}")
else
  mapfile -t programs < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -name '*_fuzzer' | sort)
fi
[ ${#programs[@]} -gt 0 ] || die "no *_fuzzer program was built: nothing was run"
for program in "${programs[@]}"; do
  name=$(basename "$program")
  corpus=$ITHACA_CACHE/fuzz/$name
  mkdir -p "$corpus"
  seeds=()
  [ ! -d "tests/fuzz/seeds/$name" ] || seeds=("tests/fuzz/seeds/$name")
  say "$name, $seconds s"
  "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$corpus/" "$corpus" "${seeds[@]}"
done
