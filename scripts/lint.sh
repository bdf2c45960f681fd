#!/usr/bin/env bash
# Formatting, layering and clang-tidy. LINT_BASE: the commit to compare with (see tools/tidy.py for the default);
# LINT_SECONDS: time for clang-tidy (default 1200).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
status=0

say "clang-format"
mapfile -d '' -t sources < <(git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' '*.cu')
[ ${#sources[@]} -gt 0 ] || die "git lists no sources here: nothing was checked"
clang-format-14 --dry-run -Werror "${sources[@]}" || status=1
say "layering"
python3 tools/layering_test.py || status=1
python3 tools/layering.py || status=1
say "clang-tidy"
python3 tools/tidy_test.py || status=1
python3 tools/tidy.py --build build/cpu --seconds "${LINT_SECONDS:-1200}" ${LINT_BASE:+--base "$LINT_BASE"} || status=1
if [ "$status" -eq 0 ]; then say "lint: clean"; else say "lint: FAILED"; fi
exit "$status"
