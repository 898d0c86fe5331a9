#!/usr/bin/env python3
"""The power goes at a call (attacks I3): states that the disk may be in then, and the same command over them.

Usage: test_power.py AGON TRACE [--calls N | --long] [--seed S] [--at N HOW SEED]; speaks TAP.
One run's changes of the disk are followed with the bytes written (disk.py). After any of them the disk may hold
what was synced, and of the rest nothing, some names, or anything, torn. Whatever the driver had said to be done by
then is there, and the same command makes the corpus that an undisturbed run makes.
"""
import argparse
import os
import random
import shutil
import sqlite3

from disk import Disk, write_state
from faults import CHANGES, Job, check, finish, note, spread, thin

HOW = ("nothing", "names", "any")


def record(job):
    """One run: the disk that it found, its calls that worked, in order, each with what the driver had said before it."""
    calls, corpus, made = [], job.corpus(), []
    disk = Disk(corpus) # before the run: what it makes is on no disk yet

    def decide(call):
        if isinstance(call, int): # the result of the last
            if call >= 0:
                calls.append(made.pop())
            return None
        made[:] = [(call, call.said())]
        return "done"

    end = job.trace(corpus, CHANGES, decide, below=job.tmp, data=True) # the folder above is synced, too
    check(end.returncode == 0 and job.digest(corpus) == job.reference, "a followed run makes what an undisturbed one makes",
          end.stderr)
    nothing = disk.after(random.Random(0), "any")
    check(not nothing, "before the first call there is nothing on the disk", str(sorted(nothing)))
    return disk, calls


def journal_is_over(corpus, calls):
    """Is the end of the rollback journal that corpus.db was made with on the disk before the first commit of the WAL? A
    journal that came back after the power loss would be hot: SQLite would undo the making of the database, and all
    that the WAL holds with it."""
    over, frames, synced = False, False, False
    for call, _ in calls:
        if call.name == "unlink" and call.path == corpus + "/corpus.db-journal":
            over, synced = True, False
        elif call.name in ("fsync", "fdatasync") and call.path == corpus:
            synced = True
        elif call.name == "pwrite64" and call.path == corpus + "/corpus.db-wal":
            frames = call.args[3] >= 32 # after its header
        elif call.name in ("fsync", "fdatasync") and call.path == corpus + "/corpus.db-wal" and frames:
            return over and synced
    return False


def look(job, state, said):
    """Go on from a state that the power left; what is wrong, or None."""
    copy = job.corpus()
    write_state(state, copy)
    wrong = None
    if os.path.exists(os.path.join(copy, "corpus.db")):
        wrong = job.acked_is_there(copy, said)
    elif "done" in said:
        wrong = "corpus.db is gone, after: %s" % said
    wrong = wrong or job.resumes(copy)
    if not wrong:
        db = sqlite3.connect(os.path.join(copy, "corpus.db"))
        found = db.execute("PRAGMA integrity_check").fetchone()[0]
        wrong = None if found == "ok" else "integrity_check: %s" % found
        db.close()
    shutil.rmtree(copy, ignore_errors=True)
    return wrong


def states(disk, calls, chosen):
    """(where, the state, what was said) of each (call's place, how, seed) in chosen, in order."""
    for at, (call, said) in enumerate(calls, 1):
        disk.happen(call)
        for how, seed in chosen.get(at, ()):
            where = "--at %d %s %d: after %s" % (at, how, seed, call)
            yield where, disk.after(random.Random(seed), how), said


def draw(o, disk, calls):
    """{call's place: [(how, seed)]}"""
    if o.at:
        return {int(o.at[0]): [(o.at[1], int(o.at[2]))]}
    rng = random.Random(o.seed)
    places = {call.n: at for at, (call, _) in enumerate(calls, 1)}
    calls = thin([c for c, _ in calls], None if o.long else o.calls, rng, disk.top)
    return {places[c.n]: [(how, rng.randrange(1 << 30)) for how in (HOW if o.long else (rng.choice(HOW),))] for c in calls}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("agon")
    p.add_argument("trace")
    p.add_argument("--calls", type=int, default=12)
    p.add_argument("--long", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--at", nargs=3)
    o = p.parse_args()
    job = Job(o.agon, o.trace)
    disk, calls = record(job)
    check(journal_is_over(disk.top, calls), "corpus.db's rollback journal is over for good before the WAL holds anything")
    chosen = draw(o, disk, calls)
    n, bad = 0, 0
    for (where, _, _), wrong in spread(states(disk, calls, chosen), lambda where, state, said: look(job, state, said)):
        n += 1
        bad += wrong is not None
        if wrong or o.at:
            note("%s: %s" % (where, wrong))
    check(n > 0 and not bad, "I3 after %d power losses in a run of %d calls only what was not said to be done is missing"
          % (n, len(calls)), "%d were bad" % bad)
    job.close()
    finish()


main()
