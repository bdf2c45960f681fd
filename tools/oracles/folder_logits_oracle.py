#!/usr/bin/env python3
"""A model folder as transformers opens it against `ithaca eval`: the mean loss of the same windows, both in float32.

    folder_logits_oracle.py --program build/cpu/bin/ithaca [--cutoff_len 512] [--windows 2] FOLDER TEXT.txt

The mean loss depends on every logit of every window. The windows are made here from the text alone: its tokens and one eos, the first windows *
cutoff_len of them, cut every cutoff_len, labels inside the window. from_pretrained must find every tensor it looks for and none it does not
know, and each in the dtype that config.json names. Exit code 1 when the losses differ by more than 1e-5 of the loss.
"""
import argparse
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

PINNED = {"torch": "2.11.0", "transformers": "5.23.0"}
TOLERANCE = 1e-5


def loss_of_transformers(folder, text, cutoff_len, windows):
    """(mean loss, labels)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id]
    ids = torch.tensor(ids[: windows * cutoff_len])
    if len(ids) < windows * cutoff_len:
        sys.exit(f"the text has {len(ids)} tokens, fewer than {windows} windows of {cutoff_len}")
    total, labels = 0.0, 0
    with torch.inference_mode():
        for window in ids.split(cutoff_len):
            logits = model(input_ids=window[None], use_cache=False).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits.double(), window[1:], reduction="sum").item()
            labels += len(window) - 1
    return total / labels, labels


def faults_of_folder(folder):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    faults = [f"{kind}: {names}" for kind, names in report.items() if names]
    config = json.loads((folder / "config.json").read_text())
    wanted = config.get("dtype") or config["torch_dtype"]
    if model.dtype != getattr(sys.modules["torch"], wanted):
        faults.append(f"config.json says {wanted}, transformers opens it as {model.dtype}")
    names = {"float32": "F32", "bfloat16": "BF16"}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored = {file.get_slice(name).get_dtype() for name in file.keys()}
        if stored != {names[wanted]}:
            faults.append(f"config.json says {wanted}, {path.name} holds {stored}")
    return wanted, faults


def loss_of_ithaca(program, folder, text, cutoff_len, windows):
    with tempfile.TemporaryDirectory() as output:
        command = [program, "eval", "--model_name_or_path", folder, "--eval_file", text, "--cutoff_len", cutoff_len]
        command += ["--max_eval_tokens", windows * cutoff_len, "--cache_dir", output + "/cache", "--output_dir", output]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        results = json.loads(pathlib.Path(output, "eval_results.json").read_text())
    return results["eval_loss"], results["eval_tokens"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the ithaca program; `eval` is added")
    parser.add_argument("--cutoff_len", type=int, default=512)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    options = parser.parse_args()
    for name, wanted in PINNED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != wanted:
            sys.exit(f"{name} {found} found; this oracle speaks for {wanted}")

    dtype, faults = faults_of_folder(options.folder)
    with open(options.text, encoding="utf-8", newline="") as file:
        expected, labels = loss_of_transformers(options.folder, file.read(), options.cutoff_len, options.windows)
    found, found_labels = loss_of_ithaca(options.program, options.folder, options.text, options.cutoff_len, options.windows)
    difference = abs(found - expected) / expected
    print(f"{options.folder} ({dtype}): transformers {expected:.9f}, ithaca {found:.9f} over {found_labels} labels, relative difference {difference:.1e}")
    if found_labels != labels:
        faults.append(f"{labels} labels expected, {found_labels} found")
    if not difference <= TOLERANCE:
        faults.append(f"the losses differ by more than {TOLERANCE}")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
