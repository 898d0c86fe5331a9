"""Muon for matrices (each expert its own), and FP8 rounding of weights as the export does it.

Source of Muon: Jordan et al. 2024; quintic Newton-Schulz, decoupled weight decay,
update scaled to match AdamW's by 0.2 * sqrt(max(rows, columns)).
"""
import torch


def parts(name, p, c):
    """Views of a parameter as the matrices that it holds: [n][rows][columns]."""
    if ".ffn.w" in name and (c.experts + 1) * c.ei in p.shape:
        if p.shape[0] == (c.experts + 1) * c.ei:
            return lambda t: t.view(-1, c.ei, c.d)
        return lambda t: t.view(c.d, -1, c.ei).permute(1, 0, 2)
    return lambda t: t.unsqueeze(0)


class Muon:
    def __init__(self, named, c, decay=0.1, momentum=0.95):
        self.decay, self.momentum, self.groups, self.buffers = decay, momentum, {}, {}
        for n, p in named:
            f = parts(n, p, c)
            self.groups.setdefault(tuple(f(p.data).shape[1:]), []).append((p, f))
        self.param_groups = [{"lr": 0.0}]

    @torch.no_grad()
    def step(self):
        lr = self.param_groups[0]["lr"]
        for shape, members in self.groups.items():
            g = torch.cat([f(p.grad.contiguous()) for p, f in members]).float()
            buf = self.buffers.setdefault(shape, torch.zeros_like(g))
            buf.lerp_(g, 1 - self.momentum)
            x = g.lerp(buf, self.momentum).bfloat16()
            tall = shape[0] > shape[1]
            if tall:
                x = x.transpose(1, 2).contiguous()
            x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
            if tall:
                x = x.transpose(1, 2)
            i, scale = 0, lr * 0.2 * max(shape) ** 0.5
            for p, f in members:
                n = f(p.data).shape[0]
                p.data.mul_(1 - lr * self.decay)
                f(p.data).sub_(x[i:i + n], alpha=scale)
                i += n

    def zero_grad(self, set_to_none=True):
        for members in self.groups.values():
            for p, _ in members:
                p.grad = None


def fp8_blocks(w):
    """(e4m3 values, scales) of a matrix in 128 x 128 blocks; scales are powers of two, so that the
    product is exact in BF16."""
    rows, cols = w.shape
    r, k = -(-rows // 128), -(-cols // 128)
    pad = torch.zeros(r * 128, k * 128, dtype=torch.float32, device=w.device)
    pad[:rows, :cols] = w.float()
    b = pad.view(r, 128, k, 128).permute(0, 2, 1, 3)
    amax = b.abs().amax((2, 3)).clamp(min=1e-12)
    scale = torch.exp2(torch.ceil(torch.log2(amax / 448)))
    q = (b / scale[:, :, None, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
    return q.permute(0, 2, 1, 3).reshape(r * 128, k * 128)[:rows, :cols], scale


def fp8_round(w):
    """w as it is after the export: quantised and multiplied out."""
    q, s = fp8_blocks(w)
    full = s.repeat_interleave(128, 0).repeat_interleave(128, 1)[:w.shape[0], :w.shape[1]]
    return q.float() * full


def is_fp8(name, p):
    """Which parameters the export stores in FP8: all matrices but embedding, router and indexer weights."""
    return p.dim() == 2 and not name.startswith("emb") and ".router." not in name and ".ix_w." not in name


class Rounded:
    """with Rounded(model): weights are what the export will hold; afterwards the exact ones are back.
    Gradients pass straight through (Bengio et al. 2013)."""

    def __init__(self, model):
        self.named = [(n, p, parts(n, p, model.c)) for n, p in model.named_parameters()]

    @torch.no_grad()
    def __enter__(self):
        self.kept = [p.data.clone() for _, p, _ in self.named]
        for n, p, f in self.named:
            if is_fp8(n, p):
                view = f(p.data)
                for i in range(view.shape[0]):
                    view[i].copy_(fp8_round(view[i]))
            elif p.dim() == 2:
                p.data.copy_(p.data.bfloat16().float())

    @torch.no_grad()
    def __exit__(self, *_):
        for (_, p, _), k in zip(self.named, self.kept):
            p.data.copy_(k)
