#!/usr/bin/env python3
"""Writes tests/golden/optim/schedules.json: learning rates of transformers' get_scheduler.

Pinned: transformers 5.23.0, torch 2.11.0. Run from the repository's root; the file is committed.
"""
import json
import math
import pathlib

import torch
import transformers

assert transformers.__version__ == "5.23.0", transformers.__version__
assert torch.__version__.startswith("2.11.0"), torch.__version__

CASES = [
    ("linear", 3e-4, 0, 0.0, 20),
    ("linear", 3e-4, 5, 0.0, 20),
    ("linear", 3e-4, 0, 0.13, 20),
    ("cosine", 5e-5, 4, 0.0, 21),
    ("cosine", 5e-5, 0, 0.1, 21),
    ("constant", 1e-3, 0, 0.0, 20),
    ("constant", 1e-3, 3, 0.0, 20),
    ("constant_with_warmup", 1e-3, 6, 0.0, 20),
]

records = []
for name, rate, warmup_steps, warmup_ratio, total in CASES:
    warmup = warmup_steps if warmup_steps > 0 else math.ceil(total * warmup_ratio)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = transformers.get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    rates = []
    for _ in range(total + 2):  # two beyond the end
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    records.append({"type": name, "learning_rate": rate, "warmup_steps": warmup_steps, "warmup_ratio": warmup_ratio,
                    "total_steps": total, "rates": rates})

path = pathlib.Path("tests/golden/optim/schedules.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(records, indent=1) + "\n")
