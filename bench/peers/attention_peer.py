#!/usr/bin/env python3
"""Attention forward and backward of a peer, timed on the CPU: PyTorch's sdpa in one process, or DeepSpeed's DistributedAttention around it.

  attention_peer.py --ranks 1 --threads 2 --tokens 8192 --dtype bf16       sdpa alone
  attention_peer.py --ranks 2 --threads 1 --tokens 8192 --dtype float32    DeepSpeed-Ulysses over gloo, --tokens shared by the ranks

Causal, batch 1, random tensors. A step of 1,024 tokens goes before and is not counted; a step is timed on rank 0 from barrier to barrier. Prints
one line of JSON: seconds of each step. --check compares DeepSpeed's output with sdpa's in the step before.
"""
import argparse
import json
import os
import sys
import time

from peers import start_ranks

WARMUP_TOKENS = 1024


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--dtype", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def main():
    options = parse()
    if "RANK" not in os.environ:
        return start_ranks(options.ranks, options.threads)
    import torch
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rank, ranks = int(os.environ["RANK"]), options.ranks
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32

    def sdpa(q, k, v):  # [batch, tokens, heads, head size]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.size(1) != k.size(1)).transpose(1, 2)

    if ranks == 1:
        attention = sdpa
    else:
        import deepspeed
        from deepspeed.sequence.layer import DistributedAttention
        deepspeed.init_distributed(dist_backend="gloo")
        distributed = DistributedAttention(sdpa, torch.distributed.group.WORLD, scatter_idx=2, gather_idx=1)

        def attention(q, k, v):
            return distributed(q, k, v, 0)

    def barrier():
        if ranks > 1:
            torch.distributed.barrier()

    def time_steps(tokens, steps, check=False):
        part = slice(rank * tokens // ranks, (rank + 1) * tokens // ranks)
        whole = [torch.randn(1, tokens, heads, options.head_size).to(dtype)
                 for heads in (options.heads, options.kv_heads, options.kv_heads, options.heads)]
        q, k, v, dout = (t[:, part].contiguous() for t in whole)
        leaves = [t.requires_grad_() for t in (q, k, v)]
        if check:
            with torch.no_grad():
                difference = (attention(q, k, v) - sdpa(*whole[:3])[:, part]).abs().max()
            assert difference < (2e-2 if options.dtype == "bf16" else 1e-5), f"rank {rank}: off by {difference}"
        del whole
        seconds = []
        for _ in range(steps):
            for leaf in leaves:
                leaf.grad = None
            barrier()
            begin = time.monotonic()
            attention(q, k, v).backward(dout)
            barrier()
            seconds.append(time.monotonic() - begin)
        return seconds

    time_steps(min(options.tokens, WARMUP_TOKENS), 1, options.check)
    seconds = time_steps(options.tokens, options.steps)
    if rank == 0:
        print(json.dumps({"seconds": seconds}), flush=True)
    if ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
