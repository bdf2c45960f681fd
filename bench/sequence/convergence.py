#!/usr/bin/env python3
"""The loss of one small model under several layouts: same text, seed and settings, sequence parallel sizes 1, 2 and 4. Draws the curves and prints
how far each is from the run of one rank, step by step.

  convergence.py [--run TOKENS:STEPS]... [--work FOLDER] [--figure FILE.svg] [--every N]

Default runs: 8192:200 and 32768:20. A byte-level Llama of 4 layers, hidden 256, float32, from scratch, on the King James Bible
(scripts/demo.sh prepare). What is done is kept in --work and not done again; a run that was ended goes on from its last checkpoint. Wants an
interpreter with matplotlib (scripts/setup.sh oracle).
"""
import argparse
import math
import pathlib
import sys

from small_model import CACHE, ROOT, Run, write_model

# name, ranks, further settings
LAYOUTS = [("1 rank", 1, {}),
           ("2 ranks, ulysses", 2, {"sequence_parallel_method": "ulysses"}),
           ("2 ranks, ring", 2, {"sequence_parallel_method": "ring"}),
           ("4 ranks, hybrid 2 x 2", 4, {"sequence_parallel_method": "hybrid", "ulysses_degree": 2})]

SMALLEST = 1e-9  # differences below are drawn here: half an ulp of float32 is 6e-8


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", metavar="TOKENS:STEPS", help="may be given several times")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "output/convergence")
    parser.add_argument("--figure", type=pathlib.Path, default=ROOT / "docs/img/sequence_convergence.svg")
    parser.add_argument("--every", type=int, default=20, help="print every so many steps; the last always")
    parser.add_argument("--ithaca", default=ROOT / "build/cpu/bin/ithaca")
    parser.add_argument("--text", type=pathlib.Path, default=CACHE / "kjv/train.txt")
    options = parser.parse_args()
    try:
        options.run = [tuple(map(int, run.split(":"))) for run in options.run or ["8192:200", "32768:20"]]
        if any(tokens < 8 or steps < 1 for tokens, steps in options.run):
            raise ValueError
    except ValueError:
        parser.error("--run takes TOKENS:STEPS, as in 8192:200")
    return options


def train(options, tokens, steps):
    """By layout: the loss of each step."""
    model = write_model(options.work / "model")
    losses = {}
    for name, ranks, settings in LAYOUTS:
        folder = options.work / f"{tokens}x{steps}" / name.replace(", ", "_").replace(" ", "_")
        run = Run(options.ithaca, model, options.text, folder, cutoff_len=tokens, max_steps=steps, learning_rate=1e-3, lr_scheduler_type="cosine",
                  warmup_ratio=0.1, max_grad_norm=1.0, seed=42, nproc=ranks, sequence_parallel_size=ranks, save_steps=25, save_total_limit=1,
                  gradient_checkpointing="keep_attention" if tokens > 16384 else "false", **settings)
        state = run.start()
        losses[name] = [line["loss"] for line in run.log()]
        if len(losses[name]) != steps or not all(map(math.isfinite, losses[name])):
            sys.exit(f"{folder}: {len(losses[name])} finite losses expected, {steps} steps")
        print(f"{tokens:,} tokens, {name} ({run.method()}): {state}, {run.results()['train_runtime']:.0f} s", file=sys.stderr, flush=True)
    return losses


def print_differences(tokens, losses, every):
    names = list(losses)
    one, others = losses[names[0]], names[1:]
    print(f"\n{tokens:,} tokens: relative difference of the loss from that of one rank\n")
    print("| step | loss, 1 rank | " + " | ".join(others) + " | largest |\n|" + "---|" * (len(others) + 3))
    largest_ever, at = 0.0, 1
    for step, loss in enumerate(one, 1):
        differences = [abs(losses[name][step - 1] - loss) / abs(loss) for name in others]
        if max(differences) > largest_ever:
            largest_ever, at = max(differences), step
        if step == 1 or step % every == 0 or step == len(one):
            print(f"| {step} | {loss:.6f} | " + " | ".join(f"{d:.1e}" for d in differences) + f" | {max(differences):.1e} |")
    print(f"\nlargest of all steps {largest_ever:.1e} at step {at}; at the last step {max(differences):.1e}", flush=True)


def draw(figure, curves):
    import matplotlib
    matplotlib.use("svg" if figure.suffix == ".svg" else "agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "convergence", "font.size": 9})
    from matplotlib import pyplot
    styles = [{"linewidth": 4, "alpha": 0.35}, {"linestyle": "-"}, {"linestyle": "--"}, {"linestyle": ":", "linewidth": 2}]
    picture, axes = pyplot.subplots(2, len(curves), figsize=(4.5 * len(curves), 5.5), squeeze=False, sharex="col")
    for column, ((tokens, steps), losses) in enumerate(curves.items()):
        loss_axis, difference_axis = axes[:, column]
        one = next(iter(losses.values()))
        for style, (name, values) in zip(styles, losses.items()):
            x = range(1, steps + 1)
            line, = loss_axis.plot(x, values, label=name, **style)
            if values is not one:
                difference_axis.plot(x, [max(SMALLEST, abs(a - b) / abs(b)) for a, b in zip(values, one)], color=line.get_color(), label=name)
        loss_axis.set_title(f"{tokens:,} tokens")
        loss_axis.set_ylabel("loss")
        loss_axis.legend()
        difference_axis.set_yscale("log")
        difference_axis.axhline(1e-4, color="black", linewidth=0.5)
        difference_axis.set_ylabel("relative difference from 1 rank")
        difference_axis.set_xlabel("step")
    picture.tight_layout()
    figure.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(figure, metadata={"Date": None} if figure.suffix == ".svg" else None, dpi=150)
    print(f"\ndrawn: {figure}")


def main():
    options = parse()
    curves = {}
    for tokens, steps in options.run:
        curves[tokens, steps] = train(options, tokens, steps)
        print_differences(tokens, curves[tokens, steps], options.every)
    draw(options.figure, curves)


if __name__ == "__main__":
    main()
