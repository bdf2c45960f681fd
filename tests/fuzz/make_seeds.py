#!/usr/bin/env python3
"""Writes the binary seeds of tests/fuzz/seeds: small whole files from which the fuzzers start.   tests/fuzz/make_seeds.py

Python's standard library only; the same bytes each time. Seeds that are text are kept as they are, without a script.
"""
import json
import pathlib
import struct

SEEDS = pathlib.Path(__file__).resolve().parent / "seeds"
HIDDEN, HEADS, KV_HEADS, INTERMEDIATE = 8, 2, 1, 4


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind, code, values):
    return 9, struct.pack("<IQ", kind, len(values)) + b"".join(text(v) if kind == 8 else struct.pack("<" + code, v) for v in values)


def u32(value):
    return 4, struct.pack("<I", value)


def f32(value):
    return 6, struct.pack("<f", value)


def boolean(value):
    return 7, bytes([value])


def string(value):
    return 8, text(value)


def gguf(metadata, tensors):
    """metadata: key -> (type, bytes); tensors: name -> (dims fastest first, ggml type, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in metadata.items())
    data = b""
    for name, (dims, kind, values) in tensors.items():
        data += bytes(-len(data) % 32)
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += values
    return head + bytes(-len(head) % 32) + data


def llama(tokenizer):
    metadata = {
        "general.architecture": string("llama"),
        "llama.block_count": u32(1),
        "llama.context_length": u32(64),
        "llama.embedding_length": u32(HIDDEN),
        "llama.feed_forward_length": u32(INTERMEDIATE),
        "llama.attention.head_count": u32(HEADS),
        "llama.attention.head_count_kv": u32(KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.freq_base": f32(10000.0),
        **tokenizer,
    }
    vocabulary = struct.unpack("<Q", tokenizer["tokenizer.ggml.tokens"][1][4:12])[0]
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {"token_embd.weight": (HIDDEN, vocabulary), "output_norm.weight": (HIDDEN,)}
    layer = {"attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (HIDDEN, kv), "attn_v": (HIDDEN, kv), "attn_output": (HIDDEN, HIDDEN),
             "ffn_norm": (HIDDEN,), "ffn_gate": (HIDDEN, INTERMEDIATE), "ffn_up": (HIDDEN, INTERMEDIATE), "ffn_down": (INTERMEDIATE, HIDDEN)}
    shapes |= {f"blk.0.{name}.weight": shape for name, shape in layer.items()}
    tensors = {}
    for name, dims in shapes.items():
        count = dims[0] * (dims[1] if len(dims) > 1 else 1)
        tensors[name] = (dims, 0, struct.pack(f"<{count}f", *(i / 64 for i in range(count))))
    return gguf(metadata, tensors)


BYTE_LEVEL = {
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string("smollm"),
    "tokenizer.ggml.tokens": array(8, "", ["<s>", "</s>", "a", "b", "ab", "c", "\u0120"]),
    "tokenizer.ggml.token_type": array(5, "i", [3, 3, 1, 1, 1, 4, 1]),
    "tokenizer.ggml.merges": array(8, "", ["a b"]),
    "tokenizer.ggml.bos_token_id": u32(0),
    "tokenizer.ggml.eos_token_id": u32(1),
    "tokenizer.ggml.add_bos_token": boolean(True),
    "tokenizer.chat_template": string("{{ messages }}"),
}
SENTENCE_PIECE = {
    "tokenizer.ggml.model": string("llama"),
    "tokenizer.ggml.tokens": array(8, "", ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "ab"]),
    "tokenizer.ggml.scores": array(6, "f", [0.0] * 259 + [-1.0, -2.0, -3.0, -4.0]),
    "tokenizer.ggml.token_type": array(5, "i", [2, 3, 3, *[6] * 256, 1, 1, 1, 1]),
    "tokenizer.ggml.bos_token_id": u32(1),
    "tokenizer.ggml.eos_token_id": u32(2),
    "tokenizer.ggml.unknown_token_id": u32(0),
    "tokenizer.ggml.add_space_prefix": boolean(True),
}
# A tensor of each quantisation: type -> (elements, bytes) of a block.
BLOCKS = {1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}


def safetensors(tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, (kind, shape, values) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def main():
    seeds = {
        "gguf_fuzzer/byte_level.gguf": llama(BYTE_LEVEL),
        "gguf_fuzzer/sentence_piece.gguf": llama(SENTENCE_PIECE),
        "gguf_fuzzer/quantised.gguf": gguf({"general.alignment": u32(32)}, {
            f"t{kind}": ((elements,), kind, bytes(range(length % 251)) + bytes(length - length % 251)) for kind, (elements, length) in BLOCKS.items()}),
        "safetensors_fuzzer/two.safetensors": safetensors(
            {"a.weight": ("F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)), "b": ("BF16", [3], bytes(6)), "empty": ("I64", [0, 4], b"")}, {"format": "pt"}),
        "safetensors_fuzzer/scalar.safetensors": safetensors({"s": ("F64", [], bytes(8))}, {}),
    }
    for name, data in seeds.items():
        path = SEEDS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
