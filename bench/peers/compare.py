#!/usr/bin/env python3
"""Runs every row of the comparison, peers and Ithaca in turn, and prints a markdown table with the ratios.

  compare.py [--only WORD] [--steps N] [--ithaca PROGRAM] [--model FOLDER] [--text FILE]

Rows: speed (float32 and bf16, 1,024 and 4,096 tokens), memory (bf16 with float32 masters and checkpointing, 4,096 and 16,384 tokens) and start
(launch to the end of the first step, a tiny model). Ithaca's bf16 always has float32 masters; in the speed rows the peers may go without.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("ITHACA_CACHE", pathlib.Path.home() / ".cache/ithaca"))

# (name, what is compared, tokens, dtype of ours, checkpointing, the peers' arguments)
ROWS = [(f"speed {dtype} {tokens:,}", "tokens_per_second", tokens, dtype, False,
         [["single", "--dtype", dtype], ["ddp", "--dtype", dtype], ["ulysses", "--dtype", dtype]])
        for dtype in ("float32", "bf16") for tokens in (1024, 4096)]
# The same settings as the memory rows, so that nobody buys memory with time.
ROWS += [(f"memory bf16 {tokens:,}", "peak_rss_mb", tokens, "bf16", True,
          [["single", "--dtype", "bf16_master", "--checkpointing"], ["ulysses", "--dtype", "bf16_master", "--checkpointing"],
           ["ulysses", "--dtype", "bf16_master", "--checkpointing", "--tiled-loss", "--zero-stage", "0"]])
         for tokens in (4096, 16384)]
ROWS += [("start tiny 256", "first_step_s", 256, "float32", False,
          [["single", "--shape", "tiny"], ["ddp", "--shape", "tiny"], ["ulysses", "--shape", "tiny"]])]
TINY = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0, "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}


def run_peer(arguments, tokens, warmup, steps):
    command = [sys.executable, str(HERE / "peers.py"), *arguments, "--tokens", str(tokens), "--warmup", str(warmup), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def tiny_model(model, folder):
    """A small config.json beside the real tokenizer."""
    folder.mkdir()
    for file in model.glob("*token*"):
        (folder / file.name).symlink_to(file)
    (folder / "config.json").write_text(json.dumps(TINY))
    return folder


def run_ithaca(options, what, tokens, dtype, checkpointing, warmup, steps):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out")
        model = tiny_model(options.model, pathlib.Path(folder, "tiny")) if what == "first_step_s" else options.model
        total = 1 if what == "first_step_s" else warmup + steps
        command = [options.ithaca, "train", "--model_name_or_path", model, "--train_from_scratch", str(what == "first_step_s").lower(),
                   "--train_file", options.text, "--cutoff_len", tokens, "--max_steps", total, "--per_device_train_batch_size", 1,
                   "--gradient_accumulation_steps", 1, "--logging_steps", 1, "--save_steps", 0, "--plot_loss", "false", "--learning_rate", 1e-5,
                   "--bf16", str(dtype == "bf16").lower(), "--gradient_checkpointing", "full" if checkpointing else "false",
                   "--sequence_parallel_size", options.ranks, "--nproc", options.ranks, "--output_dir", out]
        begin = time.monotonic()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begin
        if done.returncode:
            print(f"failed: {' '.join(map(str, command))}\n{done.stderr[-2000:]}", file=sys.stderr)
            return None
        log = [json.loads(line) for line in (out / "trainer_log.jsonl").read_text().splitlines()]
        speeds = [line["tokens_per_second"] for line in log if "tokens_per_second" in line]
        results = json.loads((out / "train_results.json").read_text())
        return {"tokens_per_second": round(statistics.median(speeds[warmup:] or speeds), 1),
                "peak_rss_mb": round(max(results["peak_memory_bytes_per_rank"]) / 2**20),
                "first_step_s": round(seconds, 2)}  # the whole run, its end included: an upper bound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="just the rows whose name holds this word")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in the speed rows")
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
    print(f"{cpu}, {os.cpu_count()} cores, torch 2.11.0, commit {commit}, `bench/peers/run.sh {' '.join(sys.argv[1:])}`\n")
    print("| row | unit | who | tokens a step | value | peak RSS MB | ithaca / it |\n|---|---|---|---|---|---|---|", flush=True)
    failed = 0
    for name, what, tokens, dtype, checkpointing, peers in rows:
        warmup, steps = (0, 1) if what != "tokens_per_second" else (1, options.steps)
        ours = run_ithaca(options, what, tokens, dtype, checkpointing, warmup, steps)
        failed += ours is None
        print(f"| {name} | {what} | **ithaca**, 2 ranks, sequence parallel | {tokens:,} | {ours[what] if ours else 'failed'} | {ours['peak_rss_mb'] if ours else ''} | 1 |", flush=True)
        for arguments in peers:
            if what == "first_step_s":
                run_peer(arguments, tokens, 0, 1)  # DeepSpeed compiles at its very first start: not counted
            result = run_peer(arguments, tokens, warmup, steps)
            failed += result is None
            ratio = f"{ours[what] / result[what]:.2f}" if ours and result else ""
            who = " ".join(arguments) + (f" ({result['shape']} heads)" if result else "")
            print(f"| {name} | {what} | {who} | {result['tokens_per_step'] if result else tokens:,} | {result[what] if result else 'failed'} | "
                  f"{result['peak_rss_mb'] if result else ''} | {ratio} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
