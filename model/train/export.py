"""A trained model as a Hugging Face checkpoint in FP8 (e4m3, 128 x 128 blocks).

export(model, token_path, directory) writes config.json, tokenizer.json,
generation_config.json, shards of at most 12 MB and their index. Names and layout are those of the real
deepseek_v32 (tensors without block scale: norms F32; embedding, router and indexer
weights BF16). The correction bias is F32.
"""
import json
import os
import shutil
import struct

import torch

from optim import fp8_blocks

SHARD_BYTES = 12_000_000
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}


def config(c):
    return {
        "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "vocab_size": c.vocab, "hidden_size": c.d,
        "intermediate_size": c.ff, "moe_intermediate_size": c.ei, "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.heads, "n_shared_experts": 1, "n_routed_experts": c.experts, "routed_scaling_factor": 1.0,
        "kv_lora_rank": c.kv_rank, "q_lora_rank": c.q_rank, "qk_rope_head_dim": c.rope, "v_head_dim": c.v, "qk_nope_head_dim": c.nope,
        "n_group": 1, "topk_group": 1, "num_experts_per_tok": c.top, "norm_topk_prob": True, "first_k_dense_replace": c.n_dense, "moe_layer_freq": 1,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu", "max_position_embeddings": c.window, "rms_norm_eps": c.eps,
        "rope_theta": c.theta, "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
        "num_nextn_predict_layers": 0, "index_topk": c.index_topk, "index_head_dim": c.index_dim, "index_n_heads": c.index_heads,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "use_cache": True, "initializer_range": 0.02, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}}


class _Name(str):
    """Our name of a tensor; a part of it has the same name."""

    def __getitem__(self, _):
        return self


def tensors(m, names=False):
    """(name, tensor, how it is stored) in the order of the layers; with names, our name in the tensor's place."""
    c, out = m.c, []
    sd = {k: _Name(k) if names else v.detach().float().cpu() for k, v in m.state_dict().items()}
    out.append(("model.embed_tokens.weight", sd["emb.weight"], "bf16"))
    for i in range(c.layers):
        p, q = "model.layers.%d." % i, "blocks.%d." % i
        out += [(p + "input_layernorm.weight", sd[q + "n1"], "f32"), (p + "post_attention_layernorm.weight", sd[q + "n2"], "f32")]
        a, b = p + "self_attn.", q + "attn."
        for name, mine in (("q_a_proj", "q_a"), ("q_b_proj", "q_b"), ("kv_a_proj_with_mqa", "kv_a"), ("kv_b_proj", "kv_b"), ("o_proj", "o"),
                           ("indexer.wq_b", "ix_q"), ("indexer.wk", "ix_k")):
            out.append((a + name + ".weight", sd[b + mine + ".weight"], "fp8"))
        out += [(a + "q_a_layernorm.weight", sd[b + "q_norm"], "f32"), (a + "kv_a_layernorm.weight", sd[b + "kv_norm"], "f32"),
                (a + "indexer.k_norm.weight", sd[b + "ix_norm.weight"], "f32"), (a + "indexer.k_norm.bias", sd[b + "ix_norm.bias"], "f32"),
                (a + "indexer.weights_proj.weight", sd[b + "ix_w.weight"], "bf16")]
        f, g = p + "mlp.", q + "ffn."
        w1, w3, w2 = (sd[g + n + ".weight"] for n in ("w1", "w3", "w2"))
        if i < c.n_dense:
            out += [(f + "gate_proj.weight", w1, "fp8"), (f + "up_proj.weight", w3, "fp8"), (f + "down_proj.weight", w2, "fp8")]
            continue
        out += [(f + "gate.weight", sd[g + "router.weight"], "bf16"), (f + "gate.e_score_correction_bias", sd[g + "bias"], "f32")]
        for e in range(c.experts + 1):
            at = f + ("experts.%d." % e if e < c.experts else "shared_experts.")
            r = slice(e * c.ei, (e + 1) * c.ei)
            out += [(at + "gate_proj.weight", w1[r], "fp8"), (at + "up_proj.weight", w3[r], "fp8"), (at + "down_proj.weight", w2[:, r], "fp8")]
    out.append(("model.norm.weight", sd["norm"], "f32"))
    return out


def load(m, directory):
    """Put the weights of an exported checkpoint back into m, to train on."""
    import dequantize
    sd, state, w = dequantize.read(directory), m.state_dict(), {}
    for name, t, _ in tensors(m, names=True):
        w.setdefault(t, []).append(sd[name].float())
    for mine, parts in w.items():
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1 if mine.endswith("w2.weight") else 0)
        state[mine].copy_(joined)


def write_safetensors(path, named):
    head, at, blobs = {"__metadata__": {"format": "pt"}}, 0, []
    for name, t in named:
        raw = t.contiguous().view(torch.uint8).numpy().tobytes()
        head[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def stored(m):
    """The tensors as they are written: [(name, tensor)]."""
    out = []
    for name, t, kind in tensors(m):
        if kind == "fp8":
            q, s = fp8_blocks(t)
            out += [(name, q), (name + "_scale_inv", s)]
        else:
            out.append((name, t.to(torch.bfloat16) if kind == "bf16" else t))
    return out


def export(m, token_path, directory):
    os.makedirs(directory, exist_ok=True)
    shards, size = [[]], 0
    for name, t in stored(m):
        n = t.numel() * t.element_size()
        if size + n > SHARD_BYTES - 200_000:
            shards.append([])
            size = 0
        shards[-1].append((name, t))
        size += n
    where, total = {}, 0
    for i, named in enumerate(shards):
        file = "model-%05d-of-%05d.safetensors" % (i + 1, len(shards))
        write_safetensors(os.path.join(directory, file), named)
        for name, t in named:
            where[name] = file
            total += t.numel() * t.element_size()
    dump = lambda name, v: open(os.path.join(directory, name), "w").write(json.dumps(v, indent=2, ensure_ascii=False) + "\n")
    dump("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    dump("config.json", config(m.c))
    dump("generation_config.json", {"bos_token_id": 0, "eos_token_id": 1, "temperature": 1.0, "top_p": 0.95})
    dump("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": m.c.window, "add_bos_token": False, "clean_up_tokenization_spaces": False,
                                   "bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "<｜▁pad▁｜>"})
    shutil.copy(token_path, os.path.join(directory, "tokenizer.json"))
    return total
