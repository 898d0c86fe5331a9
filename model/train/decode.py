"""Batched sampling on the GPU, to judge a model while it is trained: absorbed MLA
over a latent cache, one CUDA graph a context length. The engine in model/ is the
real one; this shares no code with it.
"""
import torch
import torch.nn.functional as F

from model import rms, rope_table, rotate_halves, rotate_pairs


class Decoder:
    def __init__(self, m, batch, length, sparse):
        self.m, self.c, self.sparse, self.batch = m, m.c, sparse, batch
        c, bf, dev = m.c, torch.bfloat16, "cuda"
        self.w = []
        for b in m.blocks:
            a = b.attn
            kb = a.kv_b.weight.to(bf).view(c.heads, c.nope + c.v, c.kv_rank)
            self.w.append(dict(q_a=a.q_a.weight.to(bf), q_b=a.q_b.weight.to(bf), kv_a=a.kv_a.weight.to(bf), uk=kb[:, :c.nope].contiguous(),
                               uv=kb[:, c.nope:].contiguous(), o=a.o.weight.to(bf), iq=a.ix_q.weight.to(bf), ik=a.ix_k.weight.to(bf),
                               iw=a.ix_w.weight.to(bf), w13=torch.cat([b.ffn.w1.weight, b.ffn.w3.weight]).to(bf), w2=b.ffn.w2.weight.to(bf)))
        self.cache = [torch.zeros(batch, length, c.kv_rank + c.rope, device=dev, dtype=bf) for _ in m.blocks]
        self.keys = [torch.zeros(batch, length, c.index_dim, device=dev, dtype=bf) for _ in m.blocks]
        self.emb, self.at, self.rows = m.emb.weight.to(bf), torch.arange(length, device=dev), torch.arange(batch, device=dev)
        self.cos, self.sin = rope_table(c.window + 64, c.rope, c.theta, dev)

    @torch.no_grad()
    def step(self, tok, pos, n):
        """Logits after tok at pos; the first n positions of the cache are looked at."""
        c, x = self.c, self.emb[tok]
        cos, sin = self.cos[pos], self.sin[pos]
        mask = self.at[:n][None] <= pos[:, None]
        for i, (b, w) in enumerate(zip(self.m.blocks, self.w)):
            h = rms(x, b.n1)
            qr = rms(h @ w["q_a"].t(), b.attn.q_norm)
            q = (qr @ w["q_b"].t()).view(self.batch, c.heads, -1)
            qp = rotate_pairs(q[..., c.nope:], cos[:, None], sin[:, None])
            kv = h @ w["kv_a"].t()
            self.cache[i][self.rows, pos] = torch.cat([rms(kv[:, :c.kv_rank], b.attn.kv_norm), rotate_pairs(kv[:, c.kv_rank:], cos, sin)], -1)
            full = torch.cat([torch.einsum("bhn,hnr->bhr", q[..., :c.nope], w["uk"]), qp], -1)
            past = self.cache[i][:, :n]
            score = torch.bmm(full, past.transpose(1, 2)).float() * (c.nope + c.rope) ** -0.5
            keep = mask
            if self.sparse:
                iq = (qr @ w["iq"].t()).view(self.batch, c.index_heads, c.index_dim)
                iq = torch.cat([rotate_halves(iq[..., :c.rope], cos[:, None], sin[:, None]), iq[..., c.rope:]], -1)
                ik = b.attn.ix_norm((h @ w["ik"].t()).float()).to(x.dtype)
                self.keys[i][self.rows, pos] = torch.cat([rotate_halves(ik[..., :c.rope], cos, sin), ik[..., c.rope:]], -1)
                if n > c.index_topk:
                    s = (torch.relu(torch.bmm(iq, self.keys[i][:, :n].transpose(1, 2))).float() * (h @ w["iw"].t()).float().unsqueeze(-1)).sum(1)
                    s = s.masked_fill(~mask, -1e9)
                    keep = mask & (s >= s.topk(c.index_topk, -1).values[:, -1:])
            p = score.masked_fill(~keep[:, None], -1e9).softmax(-1).to(x.dtype)
            x = x + torch.einsum("bhr,hvr->bhv", torch.bmm(p, past[..., :c.kv_rank]), w["uv"]).reshape(self.batch, -1) @ w["o"].t()
            h = rms(x, b.n2)
            u = h @ w["w13"].t()
            half = u.shape[-1] // 2
            u = F.silu(u[:, :half]) * u[:, half:]
            if b.ffn.moe:
                g, _ = b.ffn.gates(h)
                g = torch.cat([g.to(u.dtype), torch.ones(self.batch, 1, device=u.device, dtype=u.dtype)], -1)
                u = (u.view(self.batch, c.experts + 1, c.ei) * g.unsqueeze(-1)).flatten(1)
            x = x + u @ w["w2"].t()
        return (rms(x, self.m.norm) @ self.emb.t()).float()


def generate(m, prompts, temperature, stop, on_turn, length=4096, sparse=True, seed=0, seconds=1e9):
    """Sample all prompts (lists of ids) at once. on_turn(i, ids) is called at each end of turn and returns
    the ids to append, or None when conversation i is over."""
    import time
    t0, n_seq, dev, bucket = time.time(), len(prompts), "cuda", 256
    d = Decoder(m, n_seq, length, sparse)
    buf = torch.zeros(n_seq, length, dtype=torch.long, device=dev)
    host = torch.zeros(n_seq, length, dtype=torch.long)
    for i, p in enumerate(prompts):
        host[i, :len(p)] = torch.tensor(p)
    buf.copy_(host)
    torch.manual_seed(seed)
    fill = torch.tensor([len(p) for p in prompts], device=dev)
    start, pos = [len(p) for p in prompts], torch.zeros(n_seq, dtype=torch.long, device=dev)
    live, over = torch.ones(n_seq, dtype=torch.bool, device=dev), [False] * n_seq

    def step(n):
        logits = d.step(buf[d.rows, pos], pos, n) / max(temperature, 1e-4)
        new = (logits - torch.log(-torch.log(torch.rand(logits.shape, device=dev).clamp_(1e-9, 1 - 1e-7)))).argmax(-1) if temperature else logits.argmax(-1)
        ahead = pos + 1
        need, at = (ahead >= fill) & live, ahead.clamp(max=length - 1)
        cur = buf[d.rows, at]
        buf[d.rows, at] = torch.where(need, new, cur)
        fill.copy_(torch.where(need, ahead + 1, fill))
        pos.copy_(torch.where(live, ahead.clamp(max=length - 2), pos))
        live.copy_(live & ~(need & ((new == stop) | (ahead >= length - 2))))

    graphs, pool = {}, torch.cuda.graph_pool_handle()
    with torch.no_grad():
        side, kept = torch.cuda.Stream(), [t.clone() for t in (buf, pos, fill, live)]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step(bucket)
            step(bucket)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        for t, k in zip((buf, pos, fill, live), kept):
            t.copy_(k)
        top = 1
        while not all(over) and time.time() - t0 < seconds:
            n = min(length, (top + 17 + bucket - 1) // bucket * bucket)
            if n not in graphs:
                g = torch.cuda.CUDAGraph()
                with torch.cuda.graph(g, pool=pool):
                    step(n)
                graphs[n] = g
            for _ in range(16):
                graphs[n].replay()
            alive = live.tolist()
            if any(not a and not o for a, o in zip(alive, over)):
                filled = fill.tolist()
                ended = [i for i in range(n_seq) if not alive[i] and not over[i]]
                rows = buf[torch.tensor(ended, device=dev)].tolist()
                for i, row in zip(ended, rows):
                    new = on_turn(i, row[start[i]:filled[i]]) if filled[i] < length - 2 else None
                    if new is None or filled[i] + len(new) > length - 64:
                        over[i] = True
                    else:
                        buf[i, filled[i]:filled[i] + len(new)] = torch.tensor(new, device=dev)
                        fill[i] = start[i] = filled[i] + len(new)
                        live[i] = True
            top = int(pos.max()) + 1
    del graphs
    torch.cuda.synchronize()
    return over
