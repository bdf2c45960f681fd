#!/usr/bin/env bash
# Runs the tests of a build and says what was not run.   scripts/test.sh PRESET [ctest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
preset=${1:?a preset}
shift
build=$ROOT/build/$preset
log=$build/Testing/Temporary/LastTest.log
rm -f "$log"
cores=$(nproc)
status=0
timeout --kill-after=30 "${TEST_SECONDS:-1800}" \
  ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$((cores < 4 ? cores : 4))" "$@" || status=$?
[ "$status" -ne 124 ] || echo "error: stopped after ${TEST_SECONDS:-1800} s; the tests above that did not end are hanging or too slow" >&2
[ -f "$log" ] || exit "$status"

awk -v gpu="$([ "$preset" != cuda ] || echo 1)" '
  /^\[==========\] [0-9]+ tests? from .* ran\./ { ran += $2; if ($2 == 0) empty++ }
  /^\[  SKIPPED \] [0-9]+ tests?, listed below/ { skipped += $4 }
  END {
    printf "%d cases, of which %d skipped (they need a GPU, or something else that is not here: their own lines say which)\n", ran, skipped
    if (gpu && skipped) { print "error: cases were skipped on a machine whose GPU they were to use"; exit 1 }
    if (empty) { printf "error: %d test program(s) ran no case at all\n", empty; exit 1 }
  }' "$log" || status=1
exit "$status"
