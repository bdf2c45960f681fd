#!/usr/bin/env bash
# Installs the peers, pinned, into an environment of their own.   bench/peers/install.sh [FOLDER, default CACHE/peers]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"
folder=${1:-$ITHACA_CACHE/peers}
wanted=$(cat "$ROOT/scripts/wheels/oracle.txt" "$ROOT/bench/peers/requirements.txt")
if [ -f "$folder/.wheels" ] && [ "$wanted" = "$(cat "$folder/.wheels")" ]; then exit 0; fi
"$ROOT/scripts/setup.sh" build
say "installing transformers, DeepSpeed and what they need into $folder"
"$ROOT/scripts/python_env.sh" "$folder" "$ROOT/scripts/wheels/oracle.txt" "$ROOT/bench/peers/requirements.txt"
