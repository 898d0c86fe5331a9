#!/usr/bin/env python3
"""The driver killed at its n-th system call, each stage (attacks I1).

Usage: test_kill.py AGON TRACE [--calls N] [--kills N] [--long] [--seed S] [--at N]; speaks TAP.
What kill -9 leaves is what the disk holds while the driver stands still before a call: one run is stopped at each
of its changes of the disk, the corpus copied, and the same command given over the copy. Some are killed indeed.
"""
import argparse
import os
import random
import shutil

from faults import CHANGES, Job, check, finish, note, thin


def look(job, corpus, said):
    """What is wrong with a corpus whose driver was killed, or None."""
    return job.acked_is_there(corpus, said) or job.resumes(corpus)


def copies(job, wanted, rng):
    """Stop before the chosen calls of one run, and go on from a copy of each moment."""
    seen, bad = [], []
    corpus = job.corpus()
    job.trace(corpus, CHANGES, seen.append, below=corpus)
    chosen = {c.n: c for c in thin([c for c in seen if c.changes], wanted, rng, corpus)}
    corpus = job.corpus()
    moments = []

    def decide(call):
        if call.n in chosen and os.path.isdir(corpus):
            moments.append((str(call), job.corpus(), call.said()))
            shutil.copytree(corpus, moments[-1][1], symlinks=True)

    job.trace(corpus, CHANGES, decide, below=corpus)
    for call, copy, said in moments:
        wrong = look(job, copy, said)
        shutil.rmtree(copy, ignore_errors=True)
        if wrong:
            bad.append("%s: %s" % (call, wrong))
            note(bad[-1])
    check(moments and not bad, "I1 what a driver leaves at %d of the %d moments before a change of the disk is gone on from"
          % (len(moments), sum(c.changes for c in seen)), "%d were bad" % len(bad))


def kill(job, at):
    """Killed indeed before call `at`; what is wrong, or None, and the call."""
    came = []

    def decide(call):
        if call.n == at:
            came.append(str(call))
            return "kill"

    corpus = job.corpus()
    end = job.trace(corpus, CHANGES, decide, below=corpus)
    if came and end.returncode != 137:
        return "it ended with %d" % end.returncode, came
    wrong = look(job, corpus, end.stderr)
    shutil.rmtree(corpus, ignore_errors=True)
    return wrong, came


def kills(job, n, rng):
    bad, seen = [], []
    corpus = job.corpus()
    total = job.trace(corpus, CHANGES, seen.append, below=corpus).n
    for at in range(1, total + 1) if n is None else sorted(rng.sample(range(1, total + 1), n)):
        wrong, came = kill(job, at)
        if wrong:
            bad.append("--at %d: %s: %s" % (at, came, wrong))
            note(bad[-1])
    check(not bad, "I1 drivers killed at %s of %d calls are gone on from" % (n or "each", total), "%d were bad" % len(bad))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("agon")
    p.add_argument("trace")
    p.add_argument("--calls", type=int, default=12)
    p.add_argument("--kills", type=int, default=3)
    p.add_argument("--long", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--at", type=int)
    o = p.parse_args()
    job = Job(o.agon, o.trace)
    rng = random.Random(o.seed)
    if o.at:
        print(kill(job, o.at))
    else:
        copies(job, None if o.long else o.calls, rng)
        kills(job, o.kills * (10 if o.long else 1), rng)
    job.close()
    finish()


main()
