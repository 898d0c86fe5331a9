"""The BF16 twin of an FP8 checkpoint, for programs that read no FP8.

usage: dequantize.py FP8_DIR OUT_DIR

Scales are powers of two, so every product is exact in BF16: the twin holds the same
numbers. Tensors without a block scale are copied as they are.
"""
import json
import os
import shutil
import sys

import torch

from export import write_safetensors


def read(directory):
    """All tensors of a checkpoint folder, FP8 multiplied out: {name: tensor}."""
    from safetensors.torch import load_file
    sd, out = {}, {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            sd.update(load_file(os.path.join(directory, name)))
    for name, t in sd.items():
        if name.endswith("_scale_inv"):
            continue
        if t.dtype == torch.float8_e4m3fn:
            s = sd[name + "_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)[:t.shape[0], :t.shape[1]]
            t = t.float() * s
        out[name] = t
    return out


def main(source, target):
    os.makedirs(target, exist_ok=True)
    named = []
    for name, t in read(source).items():
        exact = t.dtype == torch.float32 and t.dim() == 2
        b = t.to(torch.bfloat16) if exact else t
        if exact and not torch.equal(b.float(), t):
            raise SystemExit("dequantize: %s is not exact in BF16" % name)
        named.append((name, b))
    write_safetensors(os.path.join(target, "model.safetensors"), named)
    config = json.load(open(os.path.join(source, "config.json")))
    config.pop("quantization_config", None)
    with open(os.path.join(target, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    shutil.copy(os.path.join(source, "tokenizer.json"), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
