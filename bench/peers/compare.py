#!/usr/bin/env python3
"""Runs every row of the comparison, peers and Ithaca in turn, and prints a markdown table with the ratios.

  compare.py [--only WORD] [--rounds N] [--steps N] [--ithaca PROGRAM] [--model FOLDER] [--text FILE]

Rows: speed (bf16 and float32; 1,024, 4,096 and 16,384 tokens), memory (bf16 with float32 masters and checkpointing, 4,096 and 16,384 tokens) and
start (launch to the end of the first step, a tiny model). Each round runs all contestants of a row one after the other; medians over the
rounds. Ithaca's bf16 always has float32 masters; in the speed rows the peers may go without. Its method is `auto`; the table says what that was.
Rows of 16,384 tokens run with checkpointing and one step, without warm-up: it takes minutes.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("ITHACA_CACHE", pathlib.Path.home() / ".cache/ithaca"))
LONG = 16384

# Ithaca's: (shape, gradient_checkpointing). The peers': arguments of peers.py and the GB that they need in all, as far as it matters.
OURS = [("9/3", "false"), ("8/4", "false")]
OURS_SPARING = [("9/3", "full"), ("8/4", "full")]


def speed_peers(dtype, tokens):
    if tokens < LONG:
        return [(["single", "--dtype", dtype], 0), (["ddp", "--dtype", dtype], 0), (["ulysses", "--dtype", dtype], 0)]
    # Two replicas of so many tokens (DDP) hold 2 x 13 GB of logits alone.
    return [(["single", "--dtype", dtype, "--checkpointing"], 18 if dtype == "bf16" else 27), (["ulysses", "--dtype", dtype, "--checkpointing"], 16)]


# (name, what is compared, tokens, dtype of ours, ours, the peers)
ROWS = [(f"speed {dtype} {tokens:,}", "tokens_per_second", tokens, dtype, OURS if tokens < LONG else OURS_SPARING, speed_peers(dtype, tokens))
        for tokens in (1024, 4096, LONG) for dtype in ("bf16", "float32")]
# The same settings as the memory rows, so that nobody buys memory with time.
ROWS += [(f"memory bf16 {tokens:,}", "peak_rss_mb", tokens, "bf16", OURS_SPARING,
          [(["single", "--dtype", "bf16_master", "--checkpointing"], 19 if tokens == LONG else 0),
           (["ulysses", "--dtype", "bf16_master", "--checkpointing"], 0),
           (["ulysses", "--dtype", "bf16_master", "--checkpointing", "--tiled-loss", "--zero-stage", "0"], 0)])
         for tokens in (4096, LONG)]
ROWS += [("start tiny 256", "first_step_s", 256, "float32", [("tiny", "false")],
          [(["single", "--shape", "tiny"], 0), (["ddp", "--shape", "tiny"], 0), (["ulysses", "--shape", "tiny"], 0)])]
UNITS = {"tokens_per_second": "tokens/s", "peak_rss_mb": "MB a process", "first_step_s": "s"}
TINY = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0, "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}
# SmolLM2-135M with heads that DeepSpeed takes (peers.py, SHAPES); weights are drawn.
FROM_SCRATCH = {"tiny": TINY, "8/4": dict(TINY, hidden_size=512, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=8,
                                          num_key_value_heads=4, max_position_embeddings=LONG)}


def memory_gb():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def failed(command, text):
    print(f"failed: {' '.join(map(str, command))}\n{text[-2000:]}", file=sys.stderr, flush=True)


def run_peer(arguments, tokens, warmup, steps):
    command = [sys.executable, str(HERE / "peers.py"), *arguments, "--tokens", str(tokens), "--warmup", str(warmup), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return failed(command, done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def scratch_model(shape, model, folder):
    """A config.json of the shape beside the real tokenizer."""
    folder.mkdir()
    for file in model.glob("*token*"):
        (folder / file.name).symlink_to(file)
    (folder / "config.json").write_text(json.dumps(FROM_SCRATCH[shape]))
    return folder


def run_ithaca(options, shape, checkpointing, tokens, dtype, warmup, steps):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out")
        scratch = shape in FROM_SCRATCH
        model = scratch_model(shape, options.model, pathlib.Path(folder, "model")) if scratch else options.model
        command = [options.ithaca, "train", "--model_name_or_path", model, "--train_from_scratch", str(scratch).lower(),
                   "--train_file", options.text, "--cutoff_len", tokens, "--max_steps", warmup + steps, "--per_device_train_batch_size", 1,
                   "--gradient_accumulation_steps", 1, "--logging_steps", 1, "--save_steps", 0, "--plot_loss", "false", "--learning_rate", 1e-5,
                   "--bf16", str(dtype == "bf16").lower(), "--gradient_checkpointing", checkpointing,
                   "--sequence_parallel_method", "auto", "--sequence_parallel_size", options.ranks, "--nproc", options.ranks, "--output_dir", out]
        begin = time.monotonic()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begin
        if done.returncode:
            return failed(command, done.stderr)
        log = [json.loads(line) for line in (out / "trainer_log.jsonl").read_text().splitlines()]
        speeds = [line["tokens_per_second"] for line in log if "tokens_per_second" in line]
        results = json.loads((out / "train_results.json").read_text())
        method = re.search(r"sequence parallel: ([^:\n]*)", done.stdout + done.stderr)
        return {"tokens_per_second": round(statistics.median(speeds[warmup:]), 1), "method": method.group(1) if method else "",
                "peak_rss_mb": round(max(results["peak_memory_bytes_per_rank"]) / 2**20), "shape": shape, "tokens_per_step": tokens,
                "first_step_s": round(seconds, 2)}  # the whole run, its end included: an upper bound


def contestants(options, row):
    """Name and what runs it once, Ithaca's first."""
    _, what, tokens, dtype, ours, peers = row
    steps = options.steps if what == "tokens_per_second" and tokens < LONG else 1
    warmup = 1 if what == "tokens_per_second" and tokens < LONG else 0
    runs = []
    for shape, checkpointing in ours:
        name = f"**Ithaca**, {options.ranks} ranks" + (f", checkpointing {checkpointing}" if checkpointing != "false" else "")
        runs.append((name, lambda shape=shape, checkpointing=checkpointing: run_ithaca(options, shape, checkpointing, tokens, dtype, warmup, steps)))
    for arguments, gigabytes in peers:
        if gigabytes > memory_gb():
            print(f"not run, needs about {gigabytes} GB: {' '.join(arguments)}, {tokens:,} tokens", file=sys.stderr, flush=True)
            continue
        runs.append((" ".join(arguments), lambda arguments=arguments: run_peer(arguments, tokens, warmup, steps)))
    return runs


def print_row(options, row):
    """Returns how many runs failed."""
    name, what, tokens, *_ = row
    runs = contestants(options, row)
    if what == "first_step_s":  # DeepSpeed compiles at its very first start: not counted
        for _, run in runs:
            run()
    found = [[] for _ in runs]
    for _ in range(options.rounds):
        for results, (_, run) in zip(found, runs):
            results.append(run())
    ours = {}  # by heads
    failures = 0
    for (who, _), results in zip(runs, found):
        failures += results.count(None)
        results = [result for result in results if result]
        if not results:
            print(f"| {name} | {who} | | {tokens:,} | failed | | |", flush=True)
            continue
        value = round(statistics.median(result[what] for result in results), 2)
        first = results[0]
        if "method" in first:
            ours[first["shape"]] = value
            who += f", {first['method']}"
        against = ours.get(first["shape"])
        ratio = f"{against / value:.2f}" if against and "method" not in first else ""
        rss = max(result["peak_rss_mb"] for result in results)
        print(f"| {name} | {who} | {first['shape']} | {first['tokens_per_step']:,} | {value:,} {UNITS[what]} | {rss:,} | {ratio} |", flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="just the rows whose name holds this word")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a run in the speed rows")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--ithaca", default=str(ROOT / "build/cpu/bin/ithaca"))
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "SmolLM2-135M-Instruct")
    parser.add_argument("--text", default=str(CACHE / "kjv/train.txt"))
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only in row[0]]
    if not rows:
        sys.exit(f"no row's name holds '{options.only}'; there are: {', '.join(row[0] for row in ROWS)}")

    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), platform.machine())
    print(f"{cpu}, {os.cpu_count()} cores, torch 2.11.0, commit {commit}, `bench/peers/run.sh {' '.join(sys.argv[1:])}`")
    print("\nThe last column is Ithaca's value on the same heads by the peer's.\n")
    print("| row | who | heads | tokens a step | value | peak RSS a process, MB | Ithaca / it |\n|---|---|---|---|---|---|---|", flush=True)
    return 1 if sum([print_row(options, row) for row in rows]) else 0


if __name__ == "__main__":
    sys.exit(main())
