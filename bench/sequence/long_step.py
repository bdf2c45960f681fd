#!/usr/bin/env python3
"""Does a step keep its speed as the sequence grows? Model FLOP/s (causal attention counted once) of a small model's training step, long against
short, by method and number of ranks; prints markdown.

  long_step.py [--short 8192] [--long 65536] [--only WORD] [--steps N] [--rounds N] [--float32]

Short and long runs in turn; the best step counts, the first of a run does not. One process with as many threads as cores is the first row. A
byte-level Llama of 2 layers, hidden 256, bf16, gradient_checkpointing keep_attention, on the King James Bible (scripts/demo.sh prepare).
"""
import argparse
import os
import pathlib
import shutil
import sys
import tempfile

from small_model import CACHE, ROOT, Run, write_model

LAYOUTS = [("1 rank", 1, {})]
LAYOUTS += [(f"{ranks} ranks {method}", ranks, {"sequence_parallel_method": method, **({"ulysses_degree": 2} if method == "hybrid" else {})})
            for ranks in (2, 4) for method in ("ulysses", "ring", "hybrid") if method != "hybrid" or ranks == 4]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=8192)
    parser.add_argument("--long", type=int, default=65536)
    parser.add_argument("--only", default="", help="just the layouts whose name holds this word")
    parser.add_argument("--steps", type=int, default=1, help="timed steps a run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--ithaca", default=ROOT / "build/cpu/bin/ithaca")
    parser.add_argument("--text", type=pathlib.Path, default=CACHE / "kjv/train.txt")
    options = parser.parse_args()
    layouts = [layout for layout in LAYOUTS if options.only in layout[0]]
    if not layouts:
        sys.exit(f"no layout's name holds '{options.only}'; there are: {', '.join(name for name, *_ in LAYOUTS)}")

    print(f"{os.cpu_count()} cores, {'float32' if options.float32 else 'bf16'}, best step of {options.rounds} x {options.steps}\n")
    print(f"| layout | GFLOP/s at {options.short:,} tokens | at {options.long:,} | ratio |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = write_model(work / "model", layers=2, heads=4, kv_heads=2, head_dim=64)
        for name, ranks, settings in layouts:
            best = {options.short: 0.0, options.long: 0.0}
            for _ in range(options.rounds):
                for tokens in best:
                    run = Run(options.ithaca, model, options.text, work / "run", cutoff_len=tokens, max_steps=1 + options.steps, learning_rate=1e-4,
                              bf16=not options.float32, gradient_checkpointing="keep_attention", save_steps=0, nproc=ranks,
                              sequence_parallel_size=ranks, **settings)
                    run.start()
                    best[tokens] = max(best[tokens], *(line["model_flops_per_second"] for line in run.log()[1:]))
                    shutil.rmtree(run.folder)
            short, long = best.values()
            print(f"| {name} | {short / 1e9:.1f} | {long / 1e9:.1f} | {long / short:.2f} |", flush=True)


if __name__ == "__main__":
    main()
