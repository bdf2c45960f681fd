#!/usr/bin/env bash
# Runs each libFuzzer target of the parsers for a while, as many at a time as there are cores.
#   scripts/fuzz.sh [SECONDS EACH, default 600] [TARGET...]       make fuzz SECONDS=60
# A target starts from tests/fuzz/seeds/TARGET, its words in tests/fuzz/TARGET.dict, and the inputs that earlier runs found: they are kept in
# CACHE/fuzz/TARGET. One that breaks a parser is left there too, as crash-*, timeout-* or oom-*: the end of its log is shown, the other
# targets go on, the script fails, and so does the next run until the parser is mended.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
export FUZZ_EACH=${1:-600}
shift || true
[[ $FUZZ_EACH =~ ^[1-9][0-9]*$ ]] || die "'$FUZZ_EACH' is not a number of seconds"
targets=("$@")
if [ $# -eq 0 ]; then
  targets=(tests/fuzz/*_fuzzer.cpp)
  targets=("${targets[@]##*/}")
  targets=("${targets[@]%.cpp}")
fi
scripts/setup.sh build clang
cmake --preset fuzz --log-level=WARNING >/dev/null
cmake --build --preset fuzz -j "$(nproc)" --target "${targets[@]}"

fuzz_one() {  # TARGET
  set -euo pipefail
  local corpus=$ITHACA_CACHE/fuzz/$1 log=build/fuzz/$1.log dictionary=()
  mkdir -p "$corpus"
  [ ! -f "tests/fuzz/$1.dict" ] || dictionary=("-dict=tests/fuzz/$1.dict")
  if "build/fuzz/tests/fuzz/$1" -max_total_time="$FUZZ_EACH" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$corpus/" "${dictionary[@]}" \
    "$corpus" "tests/fuzz/seeds/$1" >"$log" 2>&1 && grep -q '^Done [1-9]' "$log"; then
    printf '%-28s %s, %s\n' "$1" "$(grep '^Done' "$log")" "$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -n 1)"
  else
    printf '######## %s: FAILED; all of its log is in %s\n%s\n' "$1" "$log" "$(tail -n 60 "$log")"
    return 1
  fi
}
export -f fuzz_one
say "${#targets[@]} targets, $FUZZ_EACH s each"
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one "$1"' _ {} || die "a target failed: see above"
