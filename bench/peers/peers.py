#!/usr/bin/env python3
"""One training step of a peer, timed on the CPU: transformers in one process, torch DDP, or DeepSpeed's Ulysses (ALST).

  peers.py single  --tokens 4096 --dtype bf16        one process, 2 threads
  peers.py ddp     --tokens 4096 --dtype float32     2 ranks x 1 thread; --tokens are each rank's
  peers.py ulysses --tokens 4096 --dtype bf16        2 ranks x 1 thread, --tokens are shared by them; 8 / 4 heads (it refuses 9 / 3)

Random tokens, batch 1, sdpa attention, fused AdamW, clipping to 1.0: what costs time is the same as on text. Prints one line of JSON:
tokens_per_second (all ranks, median step), peak_rss_mb (the largest process), first_step_s (from the launch to the end of the first step).
  --dtype float32 | bf16 (weights and optimizer in bfloat16) | bf16_master (bfloat16 compute, float32 master weights)
"""
import argparse
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import time

SHAPES = {  # hidden, intermediate, layers, heads, kv heads
    "9/3": (576, 1536, 30, 9, 3),  # SmolLM2-135M
    "8/4": (512, 1536, 30, 8, 4),
    "tiny": (128, 384, 4, 4, 2),
}
CLIP = 1.0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["single", "ddp", "ulysses"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--dtype", choices=["float32", "bf16", "bf16_master"], default="float32")
    parser.add_argument("--shape", choices=list(SHAPES), help="default 9/3; for ulysses 8/4")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, a layer at a time")
    parser.add_argument("--tiled-loss", action="store_true", help="ulysses: ALST's tiled logits and loss (with tied weights only at ZeRO stage 0)")
    parser.add_argument("--zero-stage", type=int, help="ulysses: default 0; 2 for bf16_master")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()
    options.shape = options.shape or ("8/4" if options.peer == "ulysses" else "9/3")
    if options.zero_stage is None:
        options.zero_stage = 2 if options.dtype == "bf16_master" else 0
    return options


def start_ranks(ranks, threads):
    """Starts this program again as the ranks, plain processes: less than torchrun does, which is to the peers' advantage. Returns an exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    extensions = pathlib.Path(sys.prefix, "torch_extensions")  # DeepSpeed compiles an operator at its first start
    for lock in extensions.rglob("lock"):  # left by a run that was ended; waiting for it would never end
        lock.unlink()
    environment = dict(os.environ, TORCH_EXTENSIONS_DIR=str(extensions), WORLD_SIZE=str(ranks),
                       LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                       OMP_NUM_THREADS=str(threads), PEERS_STARTED=repr(time.time()), GLOO_SOCKET_IFNAME="lo",
                       DS_ACCELERATOR="cpu", CUDA_VISIBLE_DEVICES="", TOKENIZERS_PARALLELISM="false")
    processes = [subprocess.Popen([sys.executable, *sys.argv], env=dict(environment, RANK=str(rank), LOCAL_RANK=str(rank)))
                 for rank in range(ranks)]
    codes = [process.wait() for process in processes]
    return max(abs(code) for code in codes)


def build_model(options, torch):
    from transformers import LlamaConfig, LlamaForCausalLM
    hidden, intermediate, layers, heads, kv_heads = SHAPES[options.shape]
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, vocab_size=49152, max_position_embeddings=max(8192, options.tokens),
                         rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.to(torch.bfloat16) if options.dtype == "bf16" else model


def plain_step(options, torch, rank):
    """transformers alone, or under DDP."""
    model = build_model(options, torch)
    if options.peer == "ddp":
        torch.distributed.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(49152, (1, options.tokens), generator=torch.Generator().manual_seed(rank))

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.dtype == "bf16_master"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def ulysses_step(options, torch, rank):
    """DeepSpeed-Ulysses as its tutorial for transformers has it, on one sample of random tokens."""
    import deepspeed
    from deepspeed.runtime.sequence_parallel.ulysses_sp import TiledFusedLogitsLoss, UlyssesSPAttentionHF
    deepspeed.init_distributed(dist_backend="gloo")
    model = build_model(options, torch)
    mpu = UlyssesSPAttentionHF.register_with_transformers(
        model_name_or_path=model, core_attn_implementation="sdpa", sequence_parallel_size=options.ranks, micro_batch_size=1,
        seq_length=options.tokens, seq_length_is_variable=False)
    model.train()
    config = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": CLIP,
              "sequence_parallel_size": options.ranks, "zero_optimization": {"stage": options.zero_stage}, "zero_allow_untested_optimizer": True,
              "bf16": {"enabled": options.dtype == "bf16_master"}, "steps_per_print": 10**9, "wall_clock_breakdown": False}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, mpu=mpu)
    length = options.tokens // options.ranks
    mine = slice(rank * length, (rank + 1) * length)
    ids = torch.randint(49152, (1, options.tokens), generator=torch.Generator().manual_seed(0))
    labels = torch.nn.functional.pad(ids, (0, 1), value=-100)[:, 1:]
    batch = {"input_ids": ids[:, mine], "position_ids": torch.arange(options.tokens)[None, mine]}
    labels = labels[:, mine].contiguous()

    def tiled_loss():
        """ALST's own memory saver: logits and loss, piece by piece, with their backward inside the forward."""
        def piece(head, x, y):
            return torch.nn.functional.cross_entropy(head(x).float(), y)

        hidden = engine.module.model(**batch).last_hidden_state
        head = engine.module.lm_head
        return TiledFusedLogitsLoss.apply(piece, head, hidden, labels, None, 8, [head.weight], "mean")

    def step():
        loss = tiled_loss() if options.tiled_loss else engine(**batch, labels=labels, shift_labels=labels).loss
        engine.backward(loss)
        engine.step()
        return float(loss.detach())

    return step


def main():
    options = parse()
    if "RANK" not in os.environ:
        alone = options.peer == "single"
        return start_ranks(1 if alone else options.ranks, 2 if alone else 1)
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    step = (ulysses_step if options.peer == "ulysses" else plain_step)(options, torch, rank)
    times, first = [], None
    for _ in range(options.warmup + options.steps):
        begin = time.monotonic()
        loss = step()
        times.append(time.monotonic() - begin)
        first = first or time.time() - float(os.environ["PEERS_STARTED"])
    times = times[options.warmup:] or times
    peak = torch.tensor([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024])
    if ranks > 1:
        torch.distributed.all_reduce(peak, torch.distributed.ReduceOp.MAX)
    if rank == 0:
        tokens = options.tokens * (ranks if options.peer == "ddp" else 1)
        seconds = statistics.median(times)
        print(json.dumps({"peer": options.peer, "shape": options.shape, "dtype": options.dtype, "checkpointing": options.checkpointing,
                          "tiled_loss": options.tiled_loss, "zero_stage": options.zero_stage if options.peer == "ulysses" else None,
                          "tokens_per_step": tokens, "tokens_per_second": round(tokens / seconds, 1), "step_s": [round(t, 2) for t in times],
                          "peak_rss_mb": round(float(peak)), "first_step_s": round(first, 2), "loss": round(loss, 4)}), flush=True)
    if ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
