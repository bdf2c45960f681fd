#!/usr/bin/env python3
"""Prints what a demo run came to, from the files in its output folder.   scripts/demo_summary.py OUTPUT PROMPT"""
import json
import pathlib
import sys
import textwrap


def main():
    output, prompt = pathlib.Path(sys.argv[1]), sys.argv[2]

    def read(name, *keys):
        values = json.loads((output / name).read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in values]
        if missing:
            sys.exit(f"error: {output / name} has no {', '.join(missing)}")
        return [values[key] for key in keys]

    before, tokens, loss_before = read("eval_before.json", "perplexity", "eval_tokens", "eval_loss")
    after, loss_after = read("eval_after.json", "perplexity", "eval_loss")
    sent, predicted, memory = read("train_results.json", "bytes_sent_per_step", "bytes_predicted_per_step", "peak_memory_bytes_per_rank")

    def verse(when):
        words = (output / f"verse_{when}.txt").read_text(encoding="utf-8").strip().removeprefix(prompt).split()
        return textwrap.fill(" ".join(words), 96, initial_indent=f"  {when:<9}", subsequent_indent=" " * 11)

    picture = "training_loss.png" if (output / "training_loss.png").exists() else "no loss picture"
    same = "equal to the formula" if sent == predicted else f"the formula says {predicted:,}"
    print(f"""
perplexity of {tokens:,} held-out tokens
  before   {before:10.3f}   (loss {loss_before:.4f})
  after    {after:10.3f}   (loss {loss_after:.4f})
greedy continuation of "{prompt}"
{verse("before")}
{verse("after")}
bytes sent per step     {sent:,} by all ranks ({same})
peak memory per rank    {", ".join(f"rank {rank}: {size / 2**20:,.0f} MiB" for rank, size in enumerate(memory))}
results                 {output}/  (model.safetensors, config.json, tokenizer.json: a Hugging Face folder;
                        eval_before.json, eval_after.json, trainer_log.jsonl, {picture})
""")
    if sent != predicted:
        sys.exit("error: the bytes sent are not those of the formula")
    if not after < before:
        print("note: perplexity did not fall (with a handful of steps it may not)")


if __name__ == "__main__":
    main()
