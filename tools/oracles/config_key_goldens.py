#!/usr/bin/env python3
"""The keys that transformers' configuration classes read, and those that the gguf package can write for llama.

  $ITHACA_CACHE/oracle/bin/python tools/oracles/config_key_goldens.py OLDER tests/golden/config/keys.json

OLDER is an unpacked wheel of transformers 4.57.6 (pip download --no-deps transformers==4.57.6; python -m zipfile -e). Its
sources are read, not run. The newer keys come from the oracle environment: transformers 5.23.0, gguf 0.19.0.
"""
import ast
import dataclasses
import json
import pathlib
import sys

import gguf
import transformers

READERS = ("__init__", "__post_init__", "convert_rope_params_to_dict")  # the methods that see a file's keys
FAMILIES = {"llama": "LlamaConfig", "mistral": "MistralConfig"}


def popped(source, class_name):
    """Names that a class takes out of its keyword arguments, and the named arguments of its __init__."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name != class_name:
            continue
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name in READERS]
        for call in (inner for method in methods for inner in ast.walk(method)):
            if (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("pop", "get")
                    and isinstance(call.func.value, ast.Name) and call.func.value.id == "kwargs" and call.args
                    and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)):
                yield call.args[0].value
        for method in methods:
            if method.name == "__init__":
                yield from (argument.arg for argument in method.args.args[1:] + method.args.kwonlyargs)
        return
    raise SystemExit(f"no class {class_name}")


def keys_of(root, base):
    read = lambda name: (root / name).read_text()
    result = {}
    for family, name in FAMILIES.items():
        common = set(popped(read("configuration_utils.py"), base))
        own = set(popped(read(f"models/{family}/configuration_{family}.py"), name))
        result[family] = common | own | {"model_type", "quantization_config", "auto_map"}
    result["generation"] = set(popped(read("generation/configuration_utils.py"), "GenerationConfig"))
    return result


def newer():
    assert transformers.__version__ == "5.23.0", transformers.__version__
    root = pathlib.Path(transformers.__file__).parent
    result = keys_of(root, "PreTrainedConfig")
    rope = set(popped((root / "modeling_rope_utils.py").read_text(), "RotaryEmbeddingConfigMixin"))
    for family, name in FAMILIES.items():
        result[family] |= {field.name for field in dataclasses.fields(getattr(transformers, name))} | rope
        result[family] |= {"rope_scaling", "torch_dtype"}
    defaults = transformers.GenerationConfig._get_default_generation_params()
    result["generation"] |= set(transformers.GenerationConfig().to_dict()) | set(defaults)
    return result


def gguf_keys():
    def walk(group):
        for name, value in vars(group).items():
            if name.startswith("__"):
                continue
            if isinstance(value, str):
                yield value
            elif isinstance(value, type):
                yield from walk(value)

    fill = {"{arch}": "llama", "{id}": "0", "{name}": "tool_use", "{dense}": "dense_2"}
    for key in walk(gguf.constants.Keys):
        for pattern, value in fill.items():
            key = key.replace(pattern, value)
        yield key


def main():
    older, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    old = keys_of(older / "transformers", "PretrainedConfig")
    found = {"transformers 4.57.6": old, "transformers 5.23.0": newer(), "gguf 0.19.0": {"llama": set(gguf_keys())}}
    text = {version: {name: sorted(keys) for name, keys in groups.items()} for version, groups in found.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
