"""Random models as transformers computes them: twelve checkpoint folders, each with expected.json.

usage: oracle.py OUT [SEED]

Both architectures, groups of experts, odd sizes, tied embeddings, both kinds of RoPE, layers that share an
indexer. Written in float32 in the layout of published checkpoints. The indexer's top-k is replaced by a stable
descending sort, so that the lowest position wins a tie (torch.topk leaves it open). The engine's tests read
the folders: AGON_ORACLES=OUT test_gpu_engine transformers.
"""
import json
import random
import sys

import torch
import transformers
from transformers.models.deepseek_v32 import modeling_deepseek_v32
from transformers.models.glm_moe_dsa import modeling_glm_moe_dsa

N_IDS = 150


def stable_topk(scores, k, dim=-1, **_):
    values, places = scores.sort(dim=dim, descending=True, stable=True)
    return torch.return_types.topk((values[..., :k], places[..., :k]))


def random_config(i, rng):
    """The i-th of twelve; odd ones are GLM's."""
    glm, layers = i % 2 == 1, rng.choice([3, 4, 5])
    n_group = 1 if glm else rng.choice([1, 2, 4])
    n_experts = n_group * rng.choice([2, 3, 4]) * 2
    rope_dim = rng.choice([4, 8, 10, 16])
    dense = rng.choice([0, 1, 2])
    config = dict(
        vocab_size=rng.choice([301, 320, 512]), hidden_size=rng.choice([48, 64, 72, 100]), num_hidden_layers=layers,
        intermediate_size=rng.choice([90, 96, 130]), moe_intermediate_size=rng.choice([20, 26, 32]),
        num_attention_heads=(heads := rng.choice([2, 3, 4, 5])), num_key_value_heads=heads,
        n_shared_experts=rng.choice([1, 2]), n_routed_experts=n_experts, n_group=n_group,
        topk_group=rng.randint(1, n_group), num_experts_per_tok=2, norm_topk_prob=rng.random() < 0.8,
        routed_scaling_factor=rng.choice([1.0, 2.5]), kv_lora_rank=rng.choice([20, 28, 32]), q_lora_rank=rng.choice([36, 40, 48]),
        qk_rope_head_dim=rope_dim, qk_nope_head_dim=rng.choice([8, 12, 20, 24]), v_head_dim=rng.choice([12, 18, 32]),
        index_topk=rng.choice([7, 16, 33]), index_head_dim=rng.choice([16, 22, 32]), index_n_heads=rng.choice([2, 3, 4]),
        first_k_dense_replace=dense, mlp_layer_types=["dense" if k < dense else "sparse" for k in range(layers)],
        max_position_embeddings=4096, rms_norm_eps=1e-5 if glm else 1e-6, tie_word_embeddings=i % 3 == 2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6 if glm else 1e4})
    if not glm and i % 4 == 0:
        config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32, "beta_slow": 1,
                                     "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 64}
    if glm and i % 4 == 3:
        config["indexer_types"] = ["full" if k < 2 else "shared" for k in range(layers)]
    return glm, config


def randomise(model, generator):
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            p.data = 1 + 0.2 * x
        elif p.dim() == 1:
            p.data = 0.2 * x
        else:
            p.data = x / p.shape[-1] ** 0.5
    for name, b in model.named_buffers():
        if "correction_bias" in name:
            b.copy_(0.1 * torch.randn(b.shape, generator=generator))


def expected(model, glm, ids):
    module = modeling_glm_moe_dsa.GlmMoeDsaIndexer if glm else modeling_deepseek_v32.DeepseekV32Indexer
    chosen, forward, topk = {}, module.forward, torch.Tensor.topk
    torch_topk = torch.topk

    def spy(self, *args, **kwargs):
        chosen[self.layer_idx] = result = forward(self, *args, **kwargs)
        return result
    module.forward, torch.Tensor.topk, torch.topk = spy, stable_topk, stable_topk
    try:
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0].double()
    finally:
        module.forward, torch.Tensor.topk, torch.topk = forward, topk, torch_topk
    n = len(ids)
    picked = [[sorted(j for j in chosen[i][0, t].tolist() if j <= t) for t in range(n - 4, n)] for i in sorted(chosen)]
    return {"input_ids": ids, "argmax": logits.argmax(-1).tolist(), "logits_last": logits[-1].tolist(),
            "logits_sum": logits.sum(-1).tolist(), "logits_norm": logits.norm(dim=-1).tolist(), "layers": sorted(chosen), "topk": picked}


def main(out, seed="1"):
    rng, generator = random.Random(int(seed)), torch.Generator().manual_seed(int(seed))
    for i in range(12):
        glm, fields = random_config(i, rng)
        kind = "GlmMoeDsa" if glm else "DeepseekV32"
        config = getattr(transformers, kind + "Config")(**fields)
        config._attn_implementation = config._experts_implementation = "eager"
        model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()
        randomise(model, generator)
        if fields["tie_word_embeddings"]:
            model.tie_weights()
        ids = [rng.randrange(fields["vocab_size"]) for _ in range(N_IDS)]
        model.save_pretrained(f"{out}/{i:02}")
        with open(f"{out}/{i:02}/expected.json", "w") as f:
            json.dump(expected(model, glm, ids), f)
        print(f"{i:02}", kind, fields["num_hidden_layers"], "layers of", fields["hidden_size"])


if __name__ == "__main__":
    main(*sys.argv[1:])
