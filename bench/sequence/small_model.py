"""A small byte-level Llama to train from scratch, and `ithaca train` on it: what the scripts of this folder share."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("ITHACA_CACHE", pathlib.Path.home() / ".cache/ithaca"))
END = "<|end|>"


def byte_alphabet():
    """A visible character for each byte, as byte-level tokenizers name them: printable Latin-1 as it is, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def write_model(folder, hidden=256, layers=4, heads=4, kv_heads=2, head_dim=32, max_tokens=1 << 17):
    """config.json and a tokenizer.json in which every byte is a token."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {character: token for token, character in enumerate(byte_alphabet())}
    vocabulary[END] = 256
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None,
                 "added_tokens": [{"id": 256, "content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
                 "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                           "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": []}}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 257, "hidden_size": hidden,
              "intermediate_size": hidden * 8 // 3 // 16 * 16, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "head_dim": head_dim, "max_position_embeddings": max_tokens, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": True, "bos_token_id": 256, "eos_token_id": 256}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Run:
    """One `ithaca train`, into a folder of its own. A folder with the results of the same command is taken as it is."""

    def __init__(self, program, model, text, folder, **settings):
        self.folder, self.output = folder, folder / "output"
        self.command = [str(program), "train", "--model_name_or_path", str(model), "--train_from_scratch", "true", "--train_file", str(text),
                        "--per_device_train_batch_size", "1", "--logging_steps", "1", "--plot_loss", "false", "--output_dir", str(self.output),
                        "--overwrite_output_dir", "false"]
        for name, value in settings.items():
            self.command += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
        self._stamp = folder / "command.json"

    def start(self):
        if self._stamp.exists() and json.loads(self._stamp.read_text()) != self.command:
            sys.exit(f"{self.folder} holds another run; remove it or choose another --work folder")
        if (self.output / "train_results.json").exists():
            return "done before"
        if self.output.exists() and not list(self.output.glob("checkpoint-*")):  # ended before its first checkpoint
            shutil.rmtree(self.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stamp.write_text(json.dumps(self.command))
        with open(self.folder / "terminal.txt", "a", encoding="utf-8") as output:
            code = subprocess.run(self.command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if code:
            sys.exit(f"failed with {code}: {' '.join(self.command)}\n{(self.folder / 'terminal.txt').read_text()[-2000:]}")
        return "done"

    def log(self):
        """The lines of steps, as dictionaries."""
        lines = map(json.loads, (self.output / "trainer_log.jsonl").read_text().splitlines())
        return [line for line in lines if "loss" in line]

    def results(self):
        return json.loads((self.output / "train_results.json").read_text())

    def method(self):
        """What the program says it uses: "ulysses 2", "ring 2"."""
        found = re.search(r"sequence parallel: ([^:\n]*)", (self.folder / "terminal.txt").read_text())
        return found.group(1) if found else "one rank"
