#!/usr/bin/env python3
"""Writes tests/fuzz/seeds/token_cache_fuzzer: small token cache files behind the byte that token_cache_fuzzer.cpp reads first.

Python's standard library only; the same bytes each time. The fuzzer itself puts in magic, version, key and hashes.
"""
import pathlib
import struct

SEEDS = pathlib.Path(__file__).resolve().parent / "seeds" / "token_cache_fuzzer"


def cache(documents, max_id):
    ids = [token for document in documents for token in document]
    bounds = [0]
    for document in documents:
        bounds.append(bounds[-1] + len(document))
    header = b"ITHACATK" + struct.pack("<IiQQ", 2, max_id, len(documents), len(ids)) + bytes(3 * 64)
    payload = struct.pack(f"<{len(ids)}i", *ids) + bytes(4 * (len(ids) % 2)) + struct.pack(f"<{len(bounds)}q", *bounds)
    return header + payload


def main():
    SEEDS.mkdir(parents=True, exist_ok=True)
    for name, flag, documents in [("sizes", 2, [[5, 6, 0], [7, 0]]), ("every_byte", 1, [[1, 2, 3, 0]]), ("unsealed", 0, [[1, 0]]), ("none", 3, [])]:
        (SEEDS / name).write_bytes(bytes([flag]) + cache(documents, 9))


if __name__ == "__main__":
    main()
