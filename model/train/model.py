"""The deepseek_v32 model for training: MLA, lightning indexer, MoE.

Shapes: tokens of many documents are packed, x is [t][d]; `cu` holds where each
document begins. Experts lie in one matrix (w1, w3: [E * ei + sh][d], the shared
expert last) and are all computed, the gates zeroing what was not chosen: at this
size that is faster than gathering. export.py cuts them into Hugging Face's names.
Sources: spec of the engine (model/), transformers' modeling_deepseek_v32.py.
"""
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab: int = 2048
    d: int = 384
    layers: int = 8
    heads: int = 6
    nope: int = 48
    rope: int = 16
    v: int = 64
    q_rank: int = 192
    kv_rank: int = 128
    experts: int = 8
    top: int = 2
    ei: int = 224        # width of an expert; the shared one has the same
    ff: int = 1024       # width of the dense layers
    n_dense: int = 1
    index_heads: int = 4
    index_dim: int = 32
    index_topk: int = 512
    window: int = 4096
    theta: float = 10000.0
    eps: float = 1e-6

    def dict(self):
        return asdict(self)


def rms(x, w, eps=1e-6):
    return F.rms_norm(x.float(), (x.shape[-1],), w.float(), eps).to(x.dtype)


def rope_table(n, dim, theta, device):
    f = theta ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    a = torch.outer(torch.arange(n, device=device, dtype=torch.float64), f)
    return torch.cos(a).float(), torch.sin(a).float()


def rotate_pairs(x, c, s):
    """Interleaved: (x0, x1), (x2, x3), ... The order of the output is ours alone, q and k share it."""
    a, b = x.float()[..., 0::2], x.float()[..., 1::2]
    return torch.cat([a * c - b * s, b * c + a * s], -1).to(x.dtype)


def rotate_halves(x, c, s):
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * c - b * s, b * c + a * s], -1).to(x.dtype)


def attend_packed(q, k, v, cu, n_max):
    """Causal attention inside each document; q, k, v: [t][h][64]."""
    if q.is_cuda:
        return torch.ops.aten._flash_attention_forward(q, k, v, cu, cu, n_max, n_max, 0.0, True, False, scale=q.shape[-1] ** -0.5)[0]
    out, at = [], cu.tolist()
    for i, j in zip(at, at[1:]):
        if j > i:
            p = [t[i:j].transpose(0, 1)[None] for t in (q, k, v)]
            out.append(F.scaled_dot_product_attention(*p, is_causal=True)[0].transpose(0, 1))
    return torch.cat(out)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        lin = lambda i, o: nn.Linear(i, o, bias=False)
        self.q_a, self.q_norm = lin(c.d, c.q_rank), nn.Parameter(torch.ones(c.q_rank))
        self.q_b = lin(c.q_rank, c.heads * (c.nope + c.rope))
        self.kv_a, self.kv_norm = lin(c.d, c.kv_rank + c.rope), nn.Parameter(torch.ones(c.kv_rank))
        self.kv_b = lin(c.kv_rank, c.heads * (c.nope + c.v))
        self.o = lin(c.heads * c.v, c.d)
        self.ix_q, self.ix_k = lin(c.q_rank, c.index_heads * c.index_dim), lin(c.d, c.index_dim)
        self.ix_norm, self.ix_w = nn.LayerNorm(c.index_dim, eps=1e-6), lin(c.d, c.index_heads)

    def qkv(self, x, cos, sin):
        c, lead = self.c, x.shape[:-1]
        qr = rms(self.q_a(x), self.q_norm)
        q = self.q_b(qr).view(*lead, c.heads, c.nope + c.rope)
        q = torch.cat([q[..., :c.nope], rotate_pairs(q[..., c.nope:], cos.unsqueeze(-2), sin.unsqueeze(-2))], -1)
        kv = self.kv_a(x)
        latent, k_pe = rms(kv[..., :c.kv_rank], self.kv_norm), rotate_pairs(kv[..., c.kv_rank:], cos, sin)
        b = self.kv_b(latent).view(*lead, c.heads, c.nope + c.v)
        k = torch.cat([b[..., :c.nope], k_pe.unsqueeze(-2).expand(*lead, c.heads, c.rope)], -1)
        return qr, q, k, b[..., c.nope:]

    def index_scores(self, x, qr, cos, sin):
        """[b][s][s]: what the lightning indexer thinks of each earlier position."""
        c, lead = self.c, x.shape[:-1]
        q = self.ix_q(qr).view(*lead, c.index_heads, c.index_dim)
        q = torch.cat([rotate_halves(q[..., :c.rope], cos.unsqueeze(-2), sin.unsqueeze(-2)), q[..., c.rope:]], -1)
        k = self.ix_norm(self.ix_k(x).float()).to(q.dtype)
        k = torch.cat([rotate_halves(k[..., :c.rope], cos, sin), k[..., c.rope:]], -1)
        w = self.ix_w(x).float() * (c.index_heads * c.index_dim) ** -0.5
        out = 0
        for h in range(c.index_heads):
            out = out + torch.relu(q[..., h, :] @ k.transpose(-1, -2)).float() * w[..., h:h + 1]
        return out

    def forward(self, x, cos, sin, cu, n_max):
        _, q, k, v = self.qkv(x, cos, sin)
        return self.o(attend_packed(q.contiguous(), k.contiguous(), v.contiguous(), cu, n_max).reshape(x.shape[0], -1))

    def explicit(self, x, cos, sin, sparse):
        """x [b][s][d]: output with attention probabilities spelled out, and the indexer's divergence [b][s]."""
        c = self.c
        b, s, _ = x.shape
        qr, q, k, v = self.qkv(x, cos, sin)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        score = self.index_scores(x.detach(), qr.detach(), cos, sin)
        keep = torch.ones(s, s, dtype=torch.bool, device=x.device).tril().expand(b, s, s)
        score = score.masked_fill(~keep, -1e9)
        if sparse and s > c.index_topk:
            least = score.detach().topk(c.index_topk, -1).values[..., -1:]
            keep = keep & (score.detach() >= least)
        p = ((q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5).masked_fill(~keep.unsqueeze(1), -1e9).softmax(-1)
        target = p.detach().mean(1)
        log_index = score.masked_fill(~keep, -1e9).log_softmax(-1)
        kl = (target * ((target + 1e-9).log() - log_index)).masked_fill(~keep, 0).sum(-1)
        return self.o((p.to(v.dtype) @ v).transpose(1, 2).reshape(b, s, -1)), kl


class FeedForward(nn.Module):
    def __init__(self, c, moe):
        super().__init__()
        self.c, self.moe = c, moe
        n = (c.experts + 1) * c.ei if moe else c.ff
        self.w1, self.w3, self.w2 = nn.Linear(c.d, n, bias=False), nn.Linear(c.d, n, bias=False), nn.Linear(n, c.d, bias=False)
        if moe:
            self.router = nn.Linear(c.d, c.experts, bias=False)
            self.register_buffer("bias", torch.zeros(c.experts))  # e_score_correction_bias: selects, does not weigh
            self.register_buffer("load", torch.zeros(c.experts))

    def gates(self, x):
        with torch.autocast(x.device.type, enabled=False):
            s = torch.sigmoid(x.float() @ self.router.weight.float().t())
        chosen = torch.zeros_like(s).scatter(-1, (s.detach() + self.bias).topk(self.c.top, -1).indices, 1.0)
        g = s * chosen
        return g / (g.sum(-1, keepdim=True) + 1e-20), chosen

    def forward(self, x):
        h = F.silu(self.w1(x)) * self.w3(x)
        if self.moe:
            c = self.c
            g, chosen = self.gates(x)
            if self.training:
                self.load.add_(chosen.detach().reshape(-1, c.experts).sum(0))
            g = torch.cat([g.to(h.dtype), torch.ones(*g.shape[:-1], 1, device=g.device, dtype=h.dtype)], -1)
            h = (h.view(*h.shape[:-1], c.experts + 1, c.ei) * g.unsqueeze(-1)).flatten(-2)
        return self.w2(h)


class Block(nn.Module):
    def __init__(self, c, i):
        super().__init__()
        self.n1, self.n2 = nn.Parameter(torch.ones(c.d)), nn.Parameter(torch.ones(c.d))
        self.attn, self.ffn = Attention(c), FeedForward(c, i >= c.n_dense)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.emb = nn.Embedding(c.vocab, c.d)
        self.blocks = nn.ModuleList(Block(c, i) for i in range(c.layers))
        self.norm = nn.Parameter(torch.ones(c.d))
        for n, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * c.layers) if n.endswith(("attn.o.weight", "ffn.w2.weight")) else 1))
        for b in self.blocks:
            nn.init.normal_(b.attn.ix_q.weight, 0, c.q_rank ** -0.5)
            nn.init.normal_(b.attn.ix_k.weight, 0, c.d ** -0.5)
            nn.init.normal_(b.attn.ix_w.weight, 0, c.d ** -0.5)

    def head(self, x):
        return F.linear(rms(x, self.norm), self.emb.weight)

    def forward(self, tok, target, weight, where, cos, sin, cu, n_max):
        """Mean cross-entropy over the positions `where` (padded; weight 0 leaves one out)."""
        x = self.emb(tok).to(torch.bfloat16 if tok.is_cuda else torch.float32)
        for b in self.blocks:
            x = x + b.attn(rms(x, b.n1), cos, sin, cu, n_max)
            x = x + b.ffn(rms(x, b.n2))
        ce = F.cross_entropy(self.head(x[where]).float(), target, reduction="none")
        return (ce * weight).sum() / weight.sum().clamp(min=1)

    def explicit(self, tok, cos, sin, sparse, checkpoint=False):
        """tok [b][s]: hidden states and the indexers' divergences [layer][b][s]."""
        s = tok.shape[1]
        cos, sin = cos[:s], sin[:s]
        x, kls = self.emb(tok).to(torch.bfloat16 if tok.is_cuda else torch.float32), []

        def layer(b, x):
            a, kl = b.attn.explicit(rms(x, b.n1), cos, sin, sparse)
            x = x + a
            return x + b.ffn(rms(x, b.n2)), kl
        for b in self.blocks:
            x, kl = torch.utils.checkpoint.checkpoint(layer, b, x, use_reentrant=False) if checkpoint else layer(b, x)
            kls.append(kl)
        return x, torch.stack(kls)
