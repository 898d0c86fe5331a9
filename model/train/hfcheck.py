"""transformers' DeepseekV32ForCausalLM against a checkpoint: writes expected.json.

usage: hfcheck.py BF16_DIR IDS.json OUT.json

BF16_DIR is the twin that `agon model dequantize` makes. The fields are those of
the vectors in tests/data/engine: argmax, logits_last, logits_sum, logits_norm,
hidden_norm, and the selected sets of the last rows of each layer. The indexer's
top-k is replaced by a stable descending sort, so that the lowest position wins a tie.
"""
import json
import sys

import torch


def stable_topk(scores, k, dim=-1):
    v, i = scores.sort(dim=dim, descending=True, stable=True)
    return torch.return_types.topk((v[..., :k], i[..., :k]))


def main(directory, ids_path, out):
    from transformers import DeepseekV32ForCausalLM
    from transformers.models.deepseek_v32 import modeling_deepseek_v32 as ms
    model = DeepseekV32ForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    ids = json.load(open(ids_path))
    chosen, topk = {}, torch.Tensor.topk
    torch.Tensor.topk = lambda self, k, dim=-1, **_: stable_topk(self, k, dim)
    forward = ms.DeepseekV32Indexer.forward

    def spy(self, *a, **b):
        r = forward(self, *a, **b)
        chosen[self.layer_idx] = r
        return r
    ms.DeepseekV32Indexer.forward = spy
    x = torch.tensor([ids])
    with torch.no_grad():
        r = model(x, output_hidden_states=True, use_cache=False)
    torch.Tensor.topk = topk
    logits, n = r.logits[0].double(), len(ids)
    rows = list(range(n - 4, n))
    json.dump({"input_ids": ids, "argmax": logits.argmax(-1).tolist(), "logits_last": logits[-1].tolist(), "logits_sum": logits.sum(-1).tolist(),
               "logits_norm": logits.norm(dim=-1).tolist(), "hidden_norm": [h[0].double().norm(dim=-1).tolist() for h in r.hidden_states],
               "topk": [[sorted(j for j in chosen[i][0, t].tolist() if j <= t) for t in rows] for i in sorted(chosen)]}, open(out, "w"))
    ce = torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:], reduction="none")
    print("positions", n, "mean loss over all tokens %.4f" % ce.mean().item())


if __name__ == "__main__":
    main(*sys.argv[1:])
