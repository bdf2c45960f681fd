#!/usr/bin/env bash
# Tests under sanitizers.   scripts/sanitize.sh memory|threads
#   memory   address and undefined-behaviour sanitizer: every room that knows no torch (all parsers of other people's files are there: texts and token
#            caches of data in its half "documents", model files and checkpoints in "formats"), the fuzzers' seeds, and the kernels
#   threads  thread sanitizer: ranks as threads, through the collectives and through sequence-parallel attention. libtorch itself is not
#            instrumented, so races inside it are not looked for.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
case ${1:-} in
  memory)
    build=build/asan
    options=(--preset asan "-DITHACA_SANITIZE=address,undefined")
    wanted='^(base|config|text|launch|formats|documents|data|checkpoint|kernels|fuzz_[a-z_]+)_test$'
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    run=() filter='*'
    ;;
  threads)
    build=build/tsan
    options=(--preset tsan)
    wanted='^(comm|sequence_parity)_test$'
    export TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1:second_deadlock_stack=1
    run=(setarch -R) # this sanitizer's memory map does not stand much address randomisation
    filter='*Thread*:SequenceAttention.*'
    ;;
  *) die "expected memory or threads" ;;
esac
[ -z "${TORCH_ROOT:-}" ] || options+=("-DTORCH_ROOT=$TORCH_ROOT")
cmake "${options[@]}" --log-level=WARNING >/dev/null
mapfile -t targets < <(ninja -C "$build" -t targets all | sed -n 's/^\([a-z_]*_test\): phony$/\1/p' | grep -E "$wanted" | sort -u)
[ ${#targets[@]} -gt 0 ] || die "no test target matches $wanted: nothing was run"
cmake --build "$build" --target "${targets[@]}" -j "$(nproc)"
for target in "${targets[@]}"; do
  program=$(find "$build/tests" -type f -name "$target" -perm -u+x)
  cases=$("$program" --gtest_filter="$filter" --gtest_list_tests | grep -c '^  ' || true)
  [ "$cases" -gt 0 ] || die "$target has no case that matches $filter: nothing was run"
  say "$1: $target, $cases cases"
  OMP_NUM_THREADS=1 "${run[@]}" "$program" --gtest_filter="$filter" --gtest_brief=1
done
