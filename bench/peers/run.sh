#!/usr/bin/env bash
# The peers and Ithaca on the same cores, in one run, as a markdown table.
#   bench/peers/run.sh [--only WORD] [--rounds N] [--steps N]      (see bench/peers/compare.py --help)
# Needs a built tree (make build), the demo's model (scripts/demo.sh prepare) and a quiet machine. On 2 cores all rows of 1,024 and 4,096
# tokens take about half an hour, those of 16,384 (--only 16,384) more than an hour and 24 GB.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"
"$ROOT/bench/peers/install.sh"
exec "${PEERS_PYTHON:-$ITHACA_CACHE/peers/bin/python}" "$ROOT/bench/peers/compare.py" "$@"
