"""Documents for training: worker processes make them, a loader packs them.

Nothing is stored and nothing repeats: each worker draws worlds from its own seed
and writes shards into a RAM directory, which the loader empties.
"""
import os
import random
import time

import numpy as np

import retrieve
import stages
import tokenizer as tok
import world as Wd

SHARDS_MAX = 96
SHARD_TOKENS = 400000


def documents(r, prompts, real):
    """All documents of one round: a world with its tools, tasks and solvers; five retrieve stages."""
    try:
        world = Wd.make_world(r, real)
        out = stages.world_docs(r, prompts, world, Wd.View)
    except Exception as e:  # a bad draw costs one world, never the run
        print("teacher:", type(e).__name__, e, flush=True)
        out = []
    for _ in range(5):
        d = retrieve.retrieve_doc(r, prompts, real)
        if d:
            out.append(d)
    return out


def worker(w, token_path, table_path, directory, window, seed, log):
    """log: folder for the marks of verifiers' skeletons that this worker drew (novelty.py)."""
    t, prompts, real = tok.Tokenizer(token_path), stages.Prompts(), Wd.Real(table_path)
    r, k, marks = random.Random("worker %d %d" % (seed, w)), 0, set()
    while True:
        while len(os.listdir(directory)) > SHARDS_MAX:
            time.sleep(0.1)
        ids, masks, sizes, new = [], [], [], set()
        while sum(sizes) < SHARD_TOKENS:
            for d in documents(r, prompts, real):
                i, m = d.encode(t.encode, t.control)
                if len(i) <= window:
                    ids.append(np.array(i, np.uint16))
                    masks.append(np.array(m, np.uint8))
                    sizes.append(len(i))
                    new.update(d.meta.get("skeletons", ()))
        path = os.path.join(directory, "s%03d_%05d" % (w, k))
        k += 1
        np.savez(path + ".tmp.npz", t=np.concatenate(ids), m=np.concatenate(masks), n=np.array(sizes, np.int32))
        with open(os.path.join(log, "%d_%d.bin" % (seed, w)), "ab") as f:
            f.write(b"".join(new - marks))
        marks |= new
        os.rename(path + ".tmp.npz", path + ".npz")


class Loader:
    POOL = 6000

    def __init__(self, directory, seed=1):
        self.directory, self.docs, self.r = directory, [], random.Random(seed)
        self.n_docs = self.n_dropped = 0

    def more(self):
        while True:
            files = sorted((f for f in os.listdir(self.directory) if f.endswith(".npz") and ".tmp" not in f), key=lambda f: f[5:])
            if files:
                break
            time.sleep(0.02)
        path = os.path.join(self.directory, files[0])
        z = np.load(path)
        t, m, at = z["t"], z["m"], np.concatenate([[0], np.cumsum(z["n"])])
        os.remove(path)
        self.docs += [(t[i:j], m[i:j]) for i, j in zip(at[:-1], at[1:])]

    def take(self, n_max=10 ** 9):
        while len(self.docs) < self.POOL:
            self.more()
        while True:
            i = self.r.randrange(len(self.docs))
            if len(self.docs[i][0]) <= n_max:
                self.docs[i], self.docs[-1] = self.docs[-1], self.docs[i]
                self.n_docs += 1
                return self.docs.pop()

    def batch(self, size, docs_max, targets_max):
        """One packed step: tok, target, weight, where, position, cu."""
        tok_, pos = np.zeros(size, np.int64), np.zeros(size, np.int64)
        nxt, on = np.zeros(size, np.int64), np.zeros(size, bool)
        cu, n = [0], 0
        while n < size and len(cu) < docs_max:
            t, m = self.take()
            t, m = t[:size - n], m[:size - n]
            k = len(t)
            tok_[n:n + k], pos[n:n + k] = t, np.arange(k)
            nxt[n:n + k - 1], on[n:n + k - 1] = t[1:], m[1:] > 0
            n += k
            cu.append(n)
        if n < size:
            cu.append(size)
        cu += [size] * (docs_max + 2 - len(cu))
        at = np.nonzero(on)[0]
        self.n_dropped += max(0, len(at) - targets_max)
        at = at[:targets_max]
        where, weight = np.zeros(targets_max, np.int64), np.zeros(targets_max, np.float32)
        where[:len(at)], weight[:len(at)] = at, 1
        return tok_, nxt[where], weight, where, pos, np.array(cu, np.int32)

    def padded(self, b, s):
        """b documents of at most s tokens, in rows: tok, next, weight."""
        t_, n_, w_ = np.zeros((b, s), np.int64), np.zeros((b, s), np.int64), np.zeros((b, s), np.float32)
        for i in range(b):
            t, m = self.take(s)
            k = len(t)
            t_[i, :k], n_[i, :k - 1], w_[i, :k - 1] = t, t[1:], m[1:]
        return t_, n_, w_
