"""How far logits in FP8 mode are from exact ones, by the arithmetic alone: a row's relative error, mean and largest.

usage: AGON_FP8_DIR=OUT test_gpu_engine fp8_logits; fp8_error.py OUT/0 0 128; fp8_error.py OUT/1 1 96
       bench_gpu_load OUT 16 check; fp8_error.py OUT/checkpoint 1 96

FOLDER SEED N_IDS: a checkpoint in e4m3, the seed of the ids (engine.c's ids_of()), how many; no more than index_topk, so that
attention sees all. DeepSeek-V3.2's layers (engine.md 4, 6, 7) in double, once as they are, once with the roundings of
cuda_forward_fp8.c: inputs of products and latents to e4m3 with a power of two for 128 values, what stands between to BF16.
The second pass takes the experts of the first.
"""
import glob
import json
import math
import sys

import torch
from safetensors import safe_open
from torch.nn.functional import silu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where the arithmetic is done; in double on both
torch.set_default_device(DEVICE)


def quantised(x, on):
    if not on:
        return x
    x = x.bfloat16().double()
    parts = []
    for part in x.split(128, -1):
        least = (part.abs().amax(-1, keepdim=True).clamp(min=1e-4) / 448).float()
        scale = torch.exp2(torch.ceil(torch.log2(least))).double()
        parts.append((part / scale).float().to(torch.float8_e4m3fn).double() * scale)
    return torch.cat(parts, -1)


def rounded(x, on):
    return x.bfloat16().double() if on else x


def rms(x, w, eps):
    return w * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rotated(x, cosine, sine):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)


class Model:
    def __init__(self, folder):
        self.c = c = json.load(open(folder + "/config.json"))
        self.tensors, self.routes = {}, {}
        for path in glob.glob(folder + "/*.safetensors"):
            with safe_open(path, "pt") as f:
                self.tensors.update({k: f.get_tensor(k) for k in f.keys()})
        rope, dim = c.get("rope_parameters"), c["qk_rope_head_dim"]
        if not rope:  # as the published config.json has it
            rope = {"rope_theta": c["rope_theta"], "rope_type": c["rope_scaling"]["type"], **c["rope_scaling"]}
        inv = [rope["rope_theta"] ** (-2 * i / dim) for i in range(dim // 2)]
        self.scale = (c["qk_nope_head_dim"] + dim) ** -0.5
        if rope["rope_type"] == "yarn":
            def turns(r):
                return dim * math.log(rope["original_max_position_embeddings"] / (2 * math.pi * r)) / (2 * math.log(rope["rope_theta"]))
            low, high = max(math.floor(turns(rope["beta_fast"])), 0), min(math.ceil(turns(rope["beta_slow"])), dim - 1)
            high += 0.001 * (low == high)
            ramp = [min(max((i - low) / (high - low), 0), 1) for i in range(dim // 2)]
            inv = [x / rope["factor"] * r + x * (1 - r) for x, r in zip(inv, ramp)]
            self.scale *= (0.1 * rope["mscale_all_dim"] * math.log(rope["factor"]) + 1) ** 2
        self.inv = torch.tensor(inv).double()

    def w(self, name):
        t = self.tensors[name].to(DEVICE)
        if t.dtype != torch.float8_e4m3fn:
            return t.double()
        s = self.tensors[name + "_scale_inv"].to(DEVICE).double().repeat_interleave(128, 0)[: t.shape[0]]
        return t.double() * s.repeat_interleave(128, 1)[:, : t.shape[1]]

    def attention(self, p, h, on):
        c, n = self.c, len(h)
        heads, nope, kv = c["num_attention_heads"], c["qk_nope_head_dim"], c["kv_lora_rank"]
        angle = torch.arange(n).double()[:, None] * self.inv[None]
        cosine, sine = angle.cos(), angle.sin()
        q = quantised(rms(h @ self.w(p + "q_a_proj.weight").T, self.w(p + "q_a_layernorm.weight"), 1e-6), on)
        q = rounded(q @ self.w(p + "q_b_proj.weight").T, on).view(n, heads, -1)
        entry = h @ self.w(p + "kv_a_proj_with_mqa.weight").T
        latent = quantised(rms(entry[:, :kv], self.w(p + "kv_a_layernorm.weight"), 1e-6), on)
        key = rounded(rotated(entry[:, kv:], cosine, sine), on)
        kv_b = self.w(p + "kv_b_proj.weight").view(heads, -1, kv)
        absorbed = rounded(torch.einsum("thn,hnk->thk", q[..., :nope], kv_b[:, :nope]), on)
        turned = rounded(rotated(q[..., nope:], cosine[:, None], sine[:, None]), on)
        scores = torch.einsum("thk,sk->hts", absorbed, latent) + torch.einsum("thr,sr->hts", turned, key)
        scores = (scores * self.scale).masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        seen = rounded(torch.einsum("hts,sk->thk", scores.softmax(-1), latent), on)
        out = torch.einsum("thk,hvk->thv", seen, kv_b[:, nope:]).reshape(n, -1)
        return quantised(out, on) @ self.w(p + "o_proj.weight").T

    def mlp(self, p, h, on):
        gate, up = h @ self.w(p + "gate_proj.weight").T, h @ self.w(p + "up_proj.weight").T
        return quantised(silu(gate) * up, on) @ self.w(p + "down_proj.weight").T

    def experts(self, p, x, on):
        c, h = self.c, quantised(x, on)
        score = (x @ self.w(p + "gate.weight").T).sigmoid()
        if p not in self.routes:
            best = score + self.w(p + "gate.e_score_correction_bias")
            groups = best.view(len(x), c["n_group"], -1)
            if c["n_group"] > 1:
                kept = groups.topk(2, -1)[0].sum(-1).topk(c["topk_group"], -1)[1]
                out = torch.ones(len(x), c["n_group"]).bool().scatter(1, kept, False)
                best = groups.masked_fill(out[..., None], -math.inf).flatten(1)
            self.routes[p] = best.topk(c["num_experts_per_tok"], -1)[1]
        weight = score.gather(1, self.routes[p])
        if c["norm_topk_prob"]:
            weight = weight / weight.sum(-1, keepdim=True)
        y = self.mlp(p + "shared_experts.", h, on)
        for e in range(c["n_routed_experts"]):
            row, k = (self.routes[p] == e).nonzero(as_tuple=True)
            if len(row):
                part = self.mlp(f"{p}experts.{e}.", h[row], on)
                y[row] += c["routed_scaling_factor"] * weight[row, k][:, None] * part
        return y

    def logits(self, ids, on):
        c, x = self.c, self.w("model.embed_tokens.weight")[ids]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = quantised(rms(x, self.w(p + "input_layernorm.weight"), c["rms_norm_eps"]), on)
            x = x + self.attention(p + "self_attn.", h, on)
            h = rounded(rms(x, self.w(p + "post_attention_layernorm.weight"), c["rms_norm_eps"]), on)
            dense = i < c["first_k_dense_replace"]
            x = x + (self.mlp(p + "mlp.", quantised(h, on), on) if dense else self.experts(p + "mlp.", h, on))
        h = rounded(rms(x, self.w("model.norm.weight"), c["rms_norm_eps"]), on)
        head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
        return h @ rounded(self.w(head), on).T


def main(folder, seed, n_ids):
    model, state, ids = Model(folder), int(seed) * 77 + 1, []
    for _ in range(int(n_ids)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % model.c["vocab_size"])
    exact = model.logits(torch.tensor(ids), False)
    error = (model.logits(torch.tensor(ids), True) - exact).norm(dim=-1) / exact.norm(dim=-1)
    print(f"{folder}: {error.mean():.4f} in the mean, {error.max():.4f} at most")


if __name__ == "__main__":
    main(*sys.argv[1:])
