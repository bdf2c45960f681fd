#!/usr/bin/env python3
"""Attention forward and backward among ranks, Ithaca's methods and the peers in turn, and the parallel efficiency; prints markdown.

  attention.py [--only WORD] [--rounds N] [--steps N] [--program attention_ranks]

Each round runs every contestant of a row once, one after the other; the best step of all rounds counts. Causal, batch 1, head size 64. Peers:
DeepSpeed's DistributedAttention over sdpa on the same ranks, and sdpa in one process. Efficiency: seconds of Ithaca's attention in one
process with as many threads as there are ranks x threads, by the seconds of the ranks. Wants an interpreter with DeepSpeed (bench/peers/install.sh).
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEAD_SIZE = 64
# (name, ranks, tokens, dtype, heads, kv heads, Ithaca's methods, with DeepSpeed)
ROWS = [(f"{ranks} ranks {dtype} {tokens} heads 8/8", ranks, tokens, dtype, 8, 8,
         ["ulysses", "ring"] + (["hybrid"] if ranks == 4 else []), True)
        for ranks in (2, 4) for tokens in (8192, 16384, 32768) for dtype in ("float32", "bf16")]
ROWS += [(f"2 ranks {dtype} {tokens} heads 9/3", 2, tokens, dtype, 9, 3, ["ulysses", "ring"], False)
         for tokens in (8192, 16384) for dtype in ("float32", "bf16")]


def best(command):
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "bench/peers"))
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return min(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])


def contestants(options, row):
    _, ranks, tokens, dtype, heads, kv_heads, methods, deepspeed = row
    cores = os.cpu_count()
    threads = max(1, cores // ranks)

    def ours(method, ranks, threads):
        return [options.program, method, ranks, threads, tokens, dtype, heads, kv_heads, HEAD_SIZE, options.steps]

    def peer(ranks, threads):
        return [sys.executable, ROOT / "bench/peers/attention_peer.py", "--ranks", ranks, "--threads", threads, "--tokens", tokens, "--dtype", dtype,
                "--heads", heads, "--kv-heads", kv_heads, "--head-size", HEAD_SIZE, "--steps", options.steps]

    # As many threads as the ranks can use at once.
    alone = min(cores, ranks * threads)
    runs = {f"Ithaca, 1 process x {alone} threads": ours("local", 1, alone), f"sdpa, 1 process x {alone} threads": peer(1, alone)}
    for method in methods:
        runs[f"Ithaca {method}, {ranks} ranks x {threads}"] = ours(method, ranks, threads)
    if deepspeed:
        runs[f"DeepSpeed DistributedAttention, {ranks} ranks x {threads}"] = peer(ranks, threads)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="just the rows whose name holds this word")
    parser.add_argument("--tokens", type=int, help="instead of the rows' own: for a try")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="timed steps a round")
    parser.add_argument("--program", default=str(ROOT / "build/bench/bench/sequence/attention_ranks"))
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only in row[0]]
    if not rows:
        sys.exit(f"no row's name holds '{options.only}'; there are: {', '.join(row[0] for row in ROWS)}")

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch 2.11.0, best of {options.rounds} rounds of {options.steps} steps\n")
    print("| row | who | seconds | DeepSpeed / it | sdpa / it | efficiency |\n|---|---|---|---|---|---|", flush=True)
    for row in rows:
        if options.tokens:
            row = (f"{row[1]} ranks {row[3]} {options.tokens} heads {row[4]}/{row[5]}", row[1], options.tokens, *row[3:])
        runs = contestants(options, row)
        seconds = {who: float("inf") for who in runs}
        for _ in range(options.rounds):
            for who, command in runs.items():
                seconds[who] = min(seconds[who], best(command))
        ours_alone, sdpa_alone = (next(t for who, t in seconds.items() if who.startswith(word)) for word in ("Ithaca, 1", "sdpa"))
        deepspeed = next((t for who, t in seconds.items() if who.startswith("DeepSpeed")), None)
        for who, value in seconds.items():
            ratio = f"{deepspeed / value:.2f}" if deepspeed and who.startswith("Ithaca") else ""
            plain = f"{sdpa_alone / value:.2f}" if who.startswith("Ithaca") else ""
            efficiency = f"{ours_alone / value:.2f}" if who.startswith("Ithaca ") else ""
            print(f"| {row[0]} | {who} | {value:.3f} | {ratio} | {plain} | {efficiency} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
