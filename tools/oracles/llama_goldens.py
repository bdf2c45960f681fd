"""Writes tests/golden/models: tiny random Llama models and what transformers computes with them, in float32.

    python tools/oracles/llama_goldens.py tests/golden/models

Each case is a folder: config.json (written by hand, in the spelling under test, and read back by transformers) and golden.safetensors with
    weight/NAME      the parameters
    input_ids        [10, B, S], the batch of each training step
    labels           [10, B, S], shifted already, -100 for none
    position_ids     [B, S]
    documents        [B, n] document bounds (cu_seqlens) of the packed case only
    logits           [B, S, V] of batch 0
    grad/NAME        gradients of losses[0]
    losses           [10], mean over labelled tokens, under SGD with learning rate LEARNING_RATE, no momentum, no decay
transformers' own shift of labels is not used: the loss is torch's cross_entropy on labels that are shifted here.
"""

import importlib.metadata
import json
import pathlib
import sys

PINNED = {"torch": "2.11.0", "transformers": "5.23.0", "safetensors": "0.8.0"}
LEARNING_RATE = 0.1
STEPS, BATCH, LENGTH = 10, 2, 24

# hidden 24 with heads of 16: head_dim is explicit and 2 * 16 != 24.
SMALL = dict(vocab_size=48, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=1, head_dim=16, tie_word_embeddings=True, max_position_embeddings=128)
CASES = {
    "gqa_untied": dict(vocab_size=64, hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
                       tie_word_embeddings=False, rope_theta=10000.0),
    # Uneven group count and a padding token, whose embedding torch.nn.Embedding gives no gradient.
    "gqa_tied": dict(vocab_size=61, hidden_size=36, intermediate_size=40, num_attention_heads=9, num_key_value_heads=3,
                     tie_word_embeddings=True, pad_token_id=7, rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    "biases": dict(vocab_size=50, hidden_size=24, intermediate_size=32, num_attention_heads=3, num_key_value_heads=3, head_dim=10,
                   attention_bias=True, mlp_bias=True, tie_word_embeddings=False, rms_norm_eps=1e-5,
                   rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "packed": SMALL | dict(num_hidden_layers=2, rope_theta=10000.0),
    "rope_linear": SMALL | dict(rope_theta=1000.0, rope_scaling=dict(type="linear", factor=2.5)),
    # 24 positions of a model trained on 16: the base grows.
    "rope_dynamic": SMALL | dict(max_position_embeddings=16, rope_theta=10000.0, rope_scaling=dict(type="dynamic", factor=4.0)),
    "rope_dynamic_short": SMALL | dict(max_position_embeddings=24,
                                       rope_parameters=dict(rope_type="dynamic", rope_theta=100.0, factor=4.0)),
    # Wavelengths 6.3, 20, 63, 199 ... against bounds 16 and 64: kept, blended and stretched pairs all occur.
    "rope_llama3": SMALL | dict(rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                                                     high_freq_factor=4.0, original_max_position_embeddings=64)),
    "rope_llama3_old": SMALL | dict(rope_theta=500.0, rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                                                                       high_freq_factor=2.0, original_max_position_embeddings=48)),
    "rope_yarn": SMALL | dict(rope_theta=10000.0, rope_scaling=dict(rope_type="yarn", factor=4.0,
                                                                    original_max_position_embeddings=32)),
    "rope_yarn_mscale": SMALL | dict(max_position_embeddings=120, rope_parameters=dict(rope_type="yarn", rope_theta=300.0, factor=6.0, beta_fast=4.0,
                                                          beta_slow=0.5, mscale=0.8, mscale_all_dim=0.3, truncate=False,
                                                          original_max_position_embeddings=20)),
    "rope_yarn_factor": SMALL | dict(rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, attention_factor=1.25,
                                                          original_max_position_embeddings=32)),
}


def check_versions():
    for name, wanted in PINNED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != wanted:
            sys.exit(f"{name} {found} found; these files are made with {wanted}")


def draw_weights(model, generator):
    """Large enough that scores, positions and biases matter; transformers' own start (0.02) would hide them."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1.0 + 0.1 * noise if "norm" in name else 0.2 * noise)


def make_batches(vocabulary, bounds, generator):
    """bounds: the document bounds of every row, or None for one document."""
    import torch

    ids = torch.randint(0, vocabulary, (STEPS, BATCH, LENGTH), generator=generator)
    labels = torch.full_like(ids, -100)
    labels[..., :-1] = ids[..., 1:]
    labels[:, 0, 3:6] = -100
    positions = torch.arange(LENGTH).repeat(BATCH, 1)
    for row, starts in enumerate(bounds or []):
        for begin, end in zip(starts[:-1], starts[1:]):
            labels[:, row, end - 1] = -100
            positions[row, begin:end] = torch.arange(end - begin)
    return ids, labels, positions


def additive_mask(bounds):
    """[B, 1, S, S]: causal, inside a document."""
    import torch

    document = torch.zeros(BATCH, LENGTH, dtype=torch.long)
    for row, starts in enumerate(bounds):
        for index, (begin, end) in enumerate(zip(starts[:-1], starts[1:])):
            document[row, begin:end] = index
    allowed = torch.tril(torch.ones(LENGTH, LENGTH, dtype=torch.bool)) & (document[:, :, None] == document[:, None, :])
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None]


def make_case(folder, name, settings, seed):
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", num_hidden_layers=2,
                  max_position_embeddings=128, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2) | settings
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    read_back = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(read_back, dtype=torch.float32, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    draw_weights(model, generator)
    bounds = [[0, 7, 8, 24], [0, 11, 19, 24]] if name == "packed" else None
    ids, labels, positions = make_batches(config["vocab_size"], bounds, generator)
    mask = additive_mask(bounds) if bounds else None
    tensors = {"input_ids": ids, "labels": labels, "position_ids": positions}
    if bounds:
        tensors["documents"] = torch.tensor(bounds)
    for parameter_name, parameter in model.named_parameters():
        tensors[f"weight/{parameter_name}"] = parameter.detach().clone()

    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for step in range(STEPS):
        logits = model(input_ids=ids[step], position_ids=positions, attention_mask=mask, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[step].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            tensors["logits"] = logits.detach().clone()
            for parameter_name, parameter in model.named_parameters():
                tensors[f"grad/{parameter_name}"] = parameter.grad.clone()
        optimizer.step()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float32)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "golden.safetensors")
    print(f"{name}: losses {losses[0]:.4f} .. {losses[-1]:.4f}, {(folder / 'golden.safetensors').stat().st_size} bytes")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: llama_goldens.py FOLDER")
    check_versions()
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (name, settings) in enumerate(CASES.items()):
        make_case(pathlib.Path(sys.argv[1]) / name, name, settings, seed)


if __name__ == "__main__":
    main()
