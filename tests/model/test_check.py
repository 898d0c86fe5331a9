"""agon model random and check: folders in the published layout, and what is wrong with broken ones."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap

agon, embedded = sys.argv[1:3]

FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}
YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
# DeepSeek-V3.2's published config.json.
V32 = {"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "vocab_size": 129280, "hidden_size": 7168,
       "num_hidden_layers": 61, "num_nextn_predict_layers": 1, "num_attention_heads": 128, "num_key_value_heads": 128,
       "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
       "index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048, "intermediate_size": 18432, "first_k_dense_replace": 3,
       "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "n_group": 8,
       "topk_group": 4, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "routed_scaling_factor": 2.5,
       "moe_layer_freq": 1, "ep_size": 1, "rms_norm_eps": 1e-06, "hidden_act": "silu", "rope_theta": 10000, "rope_scaling": YARN,
       "max_position_embeddings": 163840, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
       "attention_bias": False, "torch_dtype": "bfloat16", "quantization_config": FP8}
# The same with small and odd dimensions, so that blocks of scales end in the middle.
TINY = {**V32, "vocab_size": 300, "hidden_size": 200, "num_hidden_layers": 3, "num_attention_heads": 3, "q_lora_rank": 72,
        "kv_lora_rank": 40, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 20, "index_n_heads": 3,
        "index_head_dim": 32, "index_topk": 16, "intermediate_size": 260, "first_k_dense_replace": 1, "moe_intermediate_size": 130,
        "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "max_position_embeddings": 512}
GLM = {**TINY, "architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "num_hidden_layers": 4, "n_group": 1,
       "topk_group": 1, "rope_scaling": None, "rope_theta": 1000000, "indexer_types": ["full", "full", "shared", "full"],
       "quantization_config": None, "eos_token_id": [1, 2, 3]}
# Some 60 million parameters.
MIDDLE = {**TINY, "vocab_size": 4096, "hidden_size": 640, "num_hidden_layers": 5, "num_attention_heads": 8, "q_lora_rank": 384,
          "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "index_n_heads": 8,
          "index_head_dim": 64, "index_topk": 128, "intermediate_size": 1280, "moe_intermediate_size": 320, "n_routed_experts": 16,
          "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2, "max_position_embeddings": 4096}
work = tempfile.mkdtemp(prefix="agon-test-")


def make(name, config, *options):
    """A random checkpoint; its folder."""
    path = os.path.join(work, name + ".json")
    with open(path, "w") as f:
        json.dump({k: v for k, v in config.items() if v is not None}, f)
    folder = os.path.join(work, name)
    done = tap.run([agon, "model", "random", folder, "--config", path, *options])
    if done.returncode:
        tap.note(done.stderr)
    return folder


def check(folder, *options):
    done = tap.run([agon, "model", "check", folder, *options])
    return done.returncode, done.stdout + done.stderr


def header(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        return size, json.loads(f.read(size))


def edit(path, change):
    """Change a file's header in place; data and offsets stay."""
    size, h = header(path)
    with open(path, "rb") as f:
        data = f.read()[8 + size:]
    change(h)
    text = json.dumps(h).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def rename(a, b):
    return lambda h: h.update({b: h.pop(a)})


def set_field(name, **fields):
    return lambda h: h[name].update(fields)


def sizes():
    for name, config, options in (("tiny", TINY, ()), ("shards", TINY, ("--shards", "5")), ("glm", GLM, ("--shards", "2")),
                                  ("middle", MIDDLE, ("--shards", "4"))):
        folder = make(name, config, *options)
        status, said = check(folder)
        tap.check(status == 0 and said.endswith("complete\n"), "a generated folder is complete: " + name, said)
        done = tap.run([agon, "model", "logits", folder], input='{"input_ids": [0, 5, 9, 17, 33, 5, 9, 17, 33, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]}')
        norms = json.loads(done.stdout)["logits_norm"] if done.returncode == 0 else []
        tap.check(len(norms) == 20 and all(0.1 < n < 1000 for n in norms), "and the engine runs it", done.stderr)
    logits = [tap.run([agon, "model", "logits", os.path.join(work, n)], input='{"input_ids": [0, 5, 9]}').stdout for n in ("tiny", "shards")]
    tap.check(logits[0] == logits[1], "the weights do not depend on the shards")
    tap.check(check(embedded)[0] == 0, "the shipped checkpoint is complete")
    tap.check(tap.run([agon, "model", "random", os.path.join(work, "tiny"), "--config", os.path.join(work, "tiny.json")]).returncode == 2,
              "weights that are there are not written over")


def published():
    """Names, shapes and dtypes of the real model: counts of its listing."""
    folder = make("real", V32, "--shards", "163", "--hollow")
    status, said = check(folder)
    tap.check(status == 0 and said.startswith("92425 tensors in 163 files, 685355329792 parameters and 41591584 scales"),
              "DeepSeek-V3.2's layout has the 92,425 tensors and 685,396,921,376 values of the published one", said)
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            found.update(header(os.path.join(folder, name))[1])
    layer = "model.layers.60."
    for name, dtype, shape in (("self_attn.kv_a_proj_with_mqa.weight", "F8_E4M3", [576, 7168]),
                               ("self_attn.kv_a_proj_with_mqa.weight_scale_inv", "F32", [5, 56]),
                               ("self_attn.indexer.weights_proj.weight", "BF16", [64, 7168]),
                               ("self_attn.kv_b_proj.weight_scale_inv", "F32", [256, 4]),
                               ("mlp.experts.255.down_proj.weight_scale_inv", "F32", [56, 16]),
                               ("mlp.gate.e_score_correction_bias", "F32", [256]), ("input_layernorm.weight", "F32", [7168])):
        got = found.get(layer + name, {})
        tap.check(got.get("dtype") == dtype and got.get("shape") == shape, "as listed: %s %s" % (name, shape), got)
    shutil.rmtree(folder)


def broken():
    wk, norm = "model.layers.1.self_attn.indexer.wk.weight", "model.layers.1.input_layernorm.weight"
    expert = "model.layers.1.mlp.experts.3.up_proj.weight"
    for claim, change, words in (
            ("a missing tensor", rename(norm, "model.layers.1.input_norm.weight"), ["'%s' is missing" % norm, "'model.layers.1.input_norm.weight' is no tensor"]),
            ("a wrong shape", set_field(expert, shape=[200, 130]), ["'%s' is [200, 130], config.json makes it [130, 200]" % expert]),
            ("scales for whole blocks only", set_field(expert + "_scale_inv", shape=[4, 1]), ["_scale_inv' is [4, 1], config.json makes it [2, 2]"]),
            ("codes without scales", rename(wk + "_scale_inv", wk + "_scales"), ["F8_E4M3 without '%s_scale_inv'" % wk, "_scales' is no tensor"]),
            ("a dtype of no weight", set_field(norm, dtype="I32"), ["'%s' is of a dtype of no weight, expected BF16, F16 or F32" % norm]),
            ("codes where the router is", set_field("model.layers.1.mlp.gate.weight", dtype="F8_E4M3", shape=[8, 400]), ["F8_E4M3, expected"])):
        folder = os.path.join(work, "broken")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(os.path.join(work, "tiny"), folder)
        edit(os.path.join(folder, "model.safetensors"), change)
        status, said = check(folder)
        tap.check(status == 1 and all(w in said for w in words), "found: " + claim, said)
    folder = os.path.join(work, "shards")
    last = os.path.join(folder, "model-00005-of-000005.safetensors")
    os.rename(last, last + ".away")
    status, said = check(folder)
    tap.check(status == 3 and "model-00005" in said, "found: a missing shard", said)
    os.rename(last + ".away", last)
    os.truncate(last, os.path.getsize(last) - 1)
    status, said = check(folder)
    tap.check(status == 2 and "truncated" in said and "model-00005" in said, "found: a truncated shard", said)
    status, said = check(os.path.join(work, "nowhere"))
    tap.check(status != 0 and said.count("\n") == 1, "one line for a folder that is not there", said)
    bigger = os.path.join(work, "bigger")
    shutil.copytree(os.path.join(work, "tiny"), bigger)
    with open(os.path.join(bigger, "config.json"), "w") as f:
        json.dump({**TINY, "num_hidden_layers": 5}, f)
    status, said = check(bigger, "-n", "3")
    tap.check(status == 1 and said.count("\n") == 4 and "problems" in said, "as many lines as wanted, and how many there are", said)


try:
    sizes()
    published()
    broken()
finally:
    shutil.rmtree(work)
tap.finish()
