#!/usr/bin/env bash
# The peers and Ithaca on the same cores, in one run, as a markdown table.
#   bench/peers/run.sh [--only WORD] [--steps N]      (see bench/peers/compare.py --help)
# Needs a built tree (make build), the demo's model (scripts/demo.sh prepare) and a quiet machine. All rows take about an hour on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"
"$ROOT/bench/peers/install.sh"
exec "${PEERS_PYTHON:-$ITHACA_CACHE/peers/bin/python}" "$ROOT/bench/peers/compare.py" "$@"
