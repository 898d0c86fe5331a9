"""Train the embedded checkpoint: main stage, indexer warm-up, sparse stage, export.

usage: train.py --tokenizer F --tables F --out DIR [--seconds MAIN,WARM,SPARSE] ...

The stages are those of the report (section 2.1.1): a dense model; then the indexer
alone learns the attention's distribution (KL, all positions); then everything is
trained with attention over the selected set, the indexer on detached inputs. In
the sparse stage weights are rounded to FP8 in the forward pass as the export rounds
them. Tested by running it: `--tiny` trains a small model for seconds on a CPU. Several
GPUs: team.py.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import queue
import shutil
import threading
import time

import data
import novelty
import team

T0 = time.time()
SAVE_STEPS = 2000


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--tables", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--seconds", default="780,50,110")
    a.add_argument("--deadline", type=float, default=1e9, help="seconds after start by which all stages are shortened to end")
    a.add_argument("--workers", type=int, default=14)
    a.add_argument("--batch", type=int, default=65536)
    a.add_argument("--lr", type=float, default=2.5e-3)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--judge", type=int, default=60, help="conversations a judged stage")
    a.add_argument("--resume", default="", help="an exported checkpoint to train on from")
    a.add_argument("--dense", default="", help="dense.pt of a run that ended early: its main stage is taken as done")
    a.add_argument("--config", default="{}")
    a.add_argument("--tiny", action="store_true")
    return a.parse_args()


class Log:
    def __init__(self, path):
        self.f = open(path, "a")

    def __call__(self, *x):
        s = "[%6.1f] " % (time.time() - T0) + " ".join(str(y) for y in x)
        print(s, flush=True)
        self.f.write(s + "\n")
        self.f.flush()


class Feed:
    """Packed batches from a background thread."""

    def __init__(self, loader, args, device):
        import torch
        self.q, self.stop = queue.Queue(16), False
        targets = int(args.batch * 0.45)

        def run():
            while not self.stop:
                b = [torch.from_numpy(x) for x in loader.batch(args.batch, args.batch // 256, targets)]
                b = [x.pin_memory() for x in b] if device == "cuda" else b
                while not self.stop:
                    try:
                        self.q.put(b, timeout=0.5)
                        break
                    except queue.Full:
                        pass
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def close(self):
        self.stop = True
        while self.thread.is_alive():
            try:
                self.q.get(timeout=0.1)
            except queue.Empty:
                pass


def optimizers(m, lr):
    import torch

    from optim import Muon
    main = [(n, p) for n, p in m.named_parameters() if ".ix_" not in n]
    matrix = lambda n, p: p.dim() == 2 and "emb" not in n and ".router." not in n
    rest = [p for n, p in main if not matrix(n, p)]
    return [Muon([(n, p) for n, p in main if matrix(n, p)], m.c), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


def balance(m, rate=1e-3):
    """Auxiliary-loss-free balancing: the correction bias follows the load."""
    import torch
    worst = torch.zeros(())
    with torch.no_grad():
        for b in m.blocks:
            if b.ffn.moe:
                f = b.ffn
                team.total(f.load)
                f.bias.add_(rate * torch.sign(f.load.mean() - f.load))
                worst = (f.load.max() / f.load.mean().clamp(min=1)).cpu()
                f.load.zero_()
    return float(worst)


def schedule(fr, n, resumed=False):
    if resumed:
        return min(1.0, (n + 1) / 100) * max(0.02, 1 - fr)
    return min(1.0, (n + 1) / 150) * (1.0 if fr < 0.35 else max(0.02, (1 - fr) / 0.65))


def save(m, args):
    """dense.pt, whole or not at all: what a run that ends early leaves behind."""
    import torch
    if team.RANK == 0:
        path = os.path.join(args.out, "dense.pt")
        torch.save(m.state_dict(), path + ".tmp")
        os.replace(path + ".tmp", path)


def main_stage(m, feed, args, seconds, device, log, loader):
    import torch

    from model import rope_table
    cos, sin = rope_table(m.c.window, m.c.rope, m.c.theta, device)
    params = [p for n, p in m.named_parameters() if ".ix_" not in n]

    def loss_of(tok, target, weight, where, pos, cu):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            return m(tok, target, weight, where, cos[pos], sin[pos], cu, m.c.window)
    step = torch.compile(loss_of, dynamic=False) if device == "cuda" else loss_of
    team.share(m)
    opts, init = optimizers(m, args.lr), {k: v.clone() for k, v in m.state_dict().items()}
    take = lambda: [x.to(device, non_blocking=True) for x in feed.q.get()]
    m.train()
    for _ in range(2 if device == "cuda" else 0):  # compile; what it learns is undone
        step(*take()).backward()
        for o in opts:
            o.zero_grad()
    m.load_state_dict(init)
    log("compiled")
    t0, n, recent, waited = time.time(), 0, [], 0.0
    while True:
        w0 = time.time()
        b = take()
        waited += time.time() - w0
        fr = team.agreed(time.time() - t0) / seconds
        if fr >= 1:
            break
        lr = args.lr * schedule(fr, n, bool(args.resume))
        for o in opts:
            for g in o.param_groups:
                g["lr"] = lr
        loss = step(*b)
        loss.backward()
        team.average(params)
        norm = torch.nn.utils.clip_grad_norm_(params, 1.0)
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        worst = balance(m) if n % 10 == 0 else 0  # every tenth step: the read of the load costs a wait
        recent.append(loss.detach())
        n += 1
        if n % 500 == 0:
            team.share(m)
        if n % SAVE_STEPS == 0:
            save(m, args)
        if n % 500 == 0 or args.tiny:
            log("main step %d loss %.4f lr %.1e norm %.2f tokens %.1fM rate %.0fk/s wait %.0fs load %.2f dropped %d" % (
                n, torch.stack(recent).mean(), lr, norm, n * args.batch * team.SIZE / 1e6, n * args.batch * team.SIZE / (time.time() - t0) / 1e3, waited, worst, loader.n_dropped))
            recent = []
    log("main stage: %d steps, %.0fM tokens, %d documents" % (n, n * args.batch * team.SIZE / 1e6, loader.n_docs * team.SIZE))
    return n


def sparse_stage(m, loader, seconds, which, device, log, tiny=False):
    """which: "warm" trains the indexer alone on dense attention; "sparse" everything on the selected set."""
    import torch
    import torch.nn.functional as F

    from model import rope_table
    from optim import Rounded
    index = [p for n, p in m.named_parameters() if ".ix_" in n]
    main = [p for n, p in m.named_parameters() if ".ix_" not in n]
    sparse = which == "sparse"
    groups = [dict(params=index, base=5e-4 if sparse else 2e-3)] + ([dict(params=main, base=1.5e-4)] if sparse else [])
    opt = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    cos, sin = rope_table(m.c.window, m.c.rope, m.c.theta, device)
    m.train(sparse)
    rounded, t0, n, tokens = Rounded(m), time.time(), 0, 0
    while (fr := team.agreed(time.time() - t0) / seconds) < 1:
        for g in opt.param_groups:
            g["lr"] = g["base"] * min(1, (n + 1) / 20) * max(0.03, 1 - fr)
        b, s = (2, 1024) if tiny else (4, 4096) if n % 4 == 3 else (16, 2048)
        tok, nxt, weight = (torch.from_numpy(x).to(device) for x in loader.padded(b, s))
        with rounded, torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            x, kl = m.explicit(tok, cos, sin, sparse, checkpoint=sparse)
            real = tok != 2
            real &= torch.cumsum(weight.flip(1), 1).flip(1) > 0
            kl = (kl * real).sum((1, 2)) / real.sum()
            loss = kl.sum()
            if sparse:
                at = weight.view(-1).nonzero()[:, 0]
                ce = F.cross_entropy(m.head(x.flatten(0, 1)[at]).float(), nxt.view(-1)[at])
                loss = loss + ce
            loss.backward()
        team.average(index + main)
        torch.nn.utils.clip_grad_norm_(index, 1.0)
        if sparse:
            torch.nn.utils.clip_grad_norm_(main, 1.0)
            balance(m, 2e-4) if n % 10 == 0 else None
        opt.step()
        m.zero_grad(set_to_none=True)
        n += 1
        tokens += int(b * s) * team.SIZE
        if n % 40 == 1 or tiny:
            log(which, "step", n, "kl", " ".join("%.3f" % z for z in kl.tolist()), "loss %.4f" % ce.item() if sparse else "")
    log(which, "stage: %d steps, %.1fM tokens" % (n, tokens / 1e6))


def held_documents():
    """Of a fixed seed. Made before training, as all that is read from files: nothing that goes missing later ends a run."""
    import random

    import stages
    r, prompts, docs = random.Random(987654), stages.Prompts(), []
    while len(docs) < 160:
        docs += data.documents(r, prompts, None)
    return docs


def held_loss(m, t, docs, device, log, tag):
    """Loss on docs, by kind, with the weights as they will be exported."""
    import torch
    import torch.nn.functional as F

    from model import rope_table
    from optim import Rounded
    sums = {}
    cos, sin = rope_table(m.c.window, m.c.rope, m.c.theta, device)
    m.eval()
    with torch.no_grad(), Rounded(m), torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        for d in docs:
            ids, mask = d.encode(t.encode, t.control)
            if len(ids) > 2048:
                continue
            for sparse in (False, True):
                x, _ = m.explicit(torch.tensor([ids], device=device), cos, sin, sparse)
                at = torch.tensor([i for i in range(len(ids) - 1) if mask[i + 1]], device=device)
                lg = m.head(x[0][at]).float()
                want = torch.tensor(ids, device=device)[at + 1]
                ce = F.cross_entropy(lg, want, reduction="sum").item()
                a = sums.setdefault((d.kind, sparse), [0, 0, 0])
                a[0] += ce
                a[1] += len(at)
                a[2] += int((lg.argmax(-1) == want).sum())
    log(tag, "held-out loss", {"%s %s" % (k, "sparse" if s else "dense"): (round(v[0] / v[1], 4), round(v[2] / v[1], 4)) for (k, s), v in sorted(sums.items())})


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    log = Log(os.path.join(args.out, "train.log")) if team.RANK == 0 else lambda *x: None
    mp.set_start_method("fork")
    shards, marks = "/dev/shm/agon%d" % os.getpid(), os.path.join(args.out, "marks")
    os.makedirs(shards)
    os.makedirs(marks, exist_ok=True)
    if team.RANK == 0:  # the end of the run reads these again
        args.tokenizer, args.tables = (shutil.copy(f, args.out) for f in (args.tokenizer, args.tables))
        if args.resume and os.path.exists(drawn := os.path.join(args.resume, "skeletons.bin")):
            shutil.copy(drawn, os.path.join(marks, "before.bin"))  # what it was trained on counts as drawn
    workers = [mp.Process(target=data.worker, args=(w + team.RANK * args.workers, args.tokenizer, args.tables, shards, 4096, args.seed, marks), daemon=True)
               for w in range(args.workers)]
    for w in workers:
        w.start()
    try:
        run(args, log, shards)
    finally:
        for w in workers:
            w.kill()


def run(args, log, shards):
    import torch

    import export
    import judge
    import tokenizer
    from model import Config, Model
    device = team.begin("cpu" if args.tiny else "cuda")
    torch.manual_seed(args.seed)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        log("torch", torch.__version__, torch.cuda.get_device_name())
    t, docs = tokenizer.Tokenizer(args.tokenizer), held_documents()[:4 if args.tiny else None]
    extra = dict(d=64, layers=2, heads=2, q_rank=32, kv_rank=32, ei=32, ff=64, index_topk=64) if args.tiny else {}
    c = Config(**dict(extra, **json.loads(args.config), vocab=t.size))
    m = Model(c).to(device)
    n = sum(p.numel() for p in m.parameters())
    log("parameters %.2fM, active %.2fM" % (n / 1e6, (n - (c.layers - c.n_dense) * 3 * c.d * c.ei * (c.experts - c.top)) / 1e6), json.dumps(c.dict()))
    if args.resume:
        export.load(m, args.resume)
        held_loss(m, t, docs, device, log, "resumed")
    loader = data.Loader(shards, args.seed * 100 + team.RANK)
    if args.tiny:
        loader.POOL, args.batch = 64, 4096
    main_s, warm_s, sparse_s = (float(x) for x in args.seconds.split(","))
    if args.dense:
        m.load_state_dict(torch.load(args.dense, map_location=device))
    else:
        feed = Feed(loader, args, device)
        main_s = min(main_s, args.deadline - (time.time() - T0) - warm_s - sparse_s - 60)
        main_stage(m, feed, args, main_s, device, log, loader)
        feed.close()
        save(m, args)
    if team.RANK == 0:
        held_loss(m, t, docs, device, log, "dense")
    sparse_stage(m, loader, warm_s, "warm", device, log, args.tiny)
    sparse_stage(m, loader, sparse_s, "sparse", device, log, args.tiny)
    team.agreed(0)  # no worker of any process draws more for this model
    if team.RANK:
        return
    log("verifier skeletons drawn: %d" % novelty.merge(os.path.join(args.out, "marks"), os.path.join(args.out, "skeletons.bin")))
    total = export.export(m, args.tokenizer, os.path.join(args.out, "checkpoint"))
    log("exported %.2f MB" % (total / 1e6))
    held_loss(m, t, docs, device, log, "final")
    open(os.path.join(args.out, "EXPORTED"), "w").close()
    if device == "cuda" and args.judge:
        m.eval()
        from optim import Rounded
        with Rounded(m):
            judge.judge(m, t, args.tables, args.judge, log, args.out)
    open(os.path.join(args.out, "DONE"), "w").close()


if __name__ == "__main__":
    main()
