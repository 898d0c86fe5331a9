#!/usr/bin/env python3
"""The driver's n-th allocation fails, once or from then on (attacks I7), in all of its libraries.

Usage: test_memory.py AGON PRELOAD [--calls N | --long N] [--seed S] [--at N[+]]; speaks TAP.
"""
import argparse
import os
import random

from faults import Ended, Job, check, finish, note, run


def attempt(job, preload, corpus, **env):
    done = run(job.command(corpus), env={**os.environ, "LD_PRELOAD": preload, **env})
    return Ended(done.returncode, done.stdout, done.stderr, 0)


def fault(job, preload, at):
    corpus = job.corpus()
    end = attempt(job, preload, corpus, AGON_FAULT_ALLOC=at)
    wrong = job.fault_is_told(end)
    if not wrong and end.returncode and "memory" not in end.stderr:
        wrong = "it does not say that memory ran out: %s" % end.stderr
    if not wrong and os.path.exists(os.path.join(corpus, "corpus.db")):
        wrong = job.acked_is_there(corpus, end.stderr)
    if not wrong and end.returncode == 0 and job.digest(corpus) != job.reference:
        wrong = "it ended well, with another digest"
    return wrong or job.resumes(corpus)


def verbs(job, preload, n, rng):
    """agon hash and the like without memory: the same words, or one line and no 0."""
    bad, count = [], os.path.join(job.tmp, "verb_count")
    for verb in (["hash"], ["ls"], ["log"], ["verify"], ["show", "cars/t1_l1"]):
        command = [job.agon, verb[0], job.reference_corpus] + verb[1:]
        whole = run(command, env={**os.environ, "LD_PRELOAD": preload, "AGON_FAULT_COUNT": count})
        total = int(open(count).read())
        for _ in range(n):
            at = "%d%s" % (rng.randint(1, total), "+" if rng.random() < 0.3 else "")
            done = run(command, env={**os.environ, "LD_PRELOAD": preload, "AGON_FAULT_ALLOC": at})
            end = Ended(done.returncode, done.stdout, done.stderr, 0)
            if not (end.returncode == 0 and end.stdout == whole.stdout) and (end.returncode != 3 or len(end.errors()) != 1):
                bad.append("agon %s, allocation %s: exit code %d: %s%s" % (verb, at, end.returncode, end.stdout[-300:], end.stderr))
                note(bad[-1])
    check(not bad, "I7 a verb without memory says what it would have said, or one line", "%d were bad" % len(bad))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("agon")
    p.add_argument("preload")
    p.add_argument("--calls", type=int, default=12)
    p.add_argument("--long", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--at")
    o = p.parse_args()
    job = Job(o.agon, None)
    rng = random.Random(o.seed)
    count = os.path.join(job.tmp, "count")
    done = attempt(job, o.preload, job.corpus(), AGON_FAULT_COUNT=count)
    total = int(open(count).read())
    check(done.returncode == 0 and total > 1000, "a run's allocations are counted", done.stderr)
    if o.at:
        print(fault(job, o.preload, o.at))
    else:
        bad, n = [], 300 if o.long else o.calls
        for i in range(n):
            # half of them among the first thousand, where all is opened
            at = rng.randint(1, 1000) if i % 4 == 0 else rng.randint(1, total)
            at = "%d%s" % (at, "+" if rng.random() < 0.3 else "")
            wrong = fault(job, o.preload, at)
            if wrong:
                bad.append("--at %s: %s" % (at, wrong))
                note(bad[-1])
        check(not bad, "I7 each of %d failing allocations of %d ends in one line that says memory, and loses nothing" % (n, total),
              "%d were bad" % len(bad))
        verbs(job, o.preload, 60 if o.long else 4, rng)
    job.close()
    finish()


main()
