#!/usr/bin/env python3
"""The n-th change of the disk fails, once or from then on (attacks I5), or is short or interrupted (I6).

Usage: test_io.py AGON TRACE [--calls N | --long] [--only PART] [--seed S] [--at N ERRNO once|on]; TAP.
Every run ends well or with exit code 3 and one line, nothing that it said to be done is missing, and the
same command without the fault makes the corpus that an undisturbed run makes.
"""
import argparse
import os
import random

from faults import CHANGES, INTERRUPTED, Job, check, finish, note, number, root, run, spread, thin, trace

# What each kind of call may say of a disk that is full, broken or read-only.
SAYS = {
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    "ftruncate": ("EIO", "ENOSPC"),
    "open": ("ENOSPC", "EROFS", "EIO", "EMFILE", "EDQUOT"),
    "rename": ("EIO", "ENOSPC", "EROFS"),
    "mkdir": ("ENOSPC", "EROFS", "EDQUOT"),
    "unlink": ("EIO", "EROFS"),
    "chmod": ("EIO", "EROFS"),
}
KIND = {"pwrite64": "write", "writev": "write", "fdatasync": "fsync", "truncate": "ftruncate", "openat": "open",
        "renameat": "rename", "renameat2": "rename", "link": "rename", "symlink": "rename", "mkdirat": "mkdir",
        "unlinkat": "unlink", "rmdir": "unlink", "fchmod": "chmod"}


def says(call):
    return SAYS[KIND.get(call.name, call.name)]


def fault(job, at, error, lasting):
    """Run with call `at` failing; what is wrong, or None, and whether the call came."""
    came = []

    def decide(call):
        if call.n < at:
            return "skip %d" % (at - 2) if call.n == 1 and at > 2 else None
        if call.n == at:
            came.append(str(call))
        if call.n == at or (lasting and error in says(call)):
            return "fail %d" % number(error)
        return None if lasting else "alone"

    corpus = job.corpus()
    end = job.trace(corpus, CHANGES, decide, below=corpus)
    wrong = job.fault_is_told(end) or job.acked_is_there(corpus, end.stderr)
    if not wrong and end.returncode == 0 and job.digest(corpus) != job.reference:
        wrong = "it ended well, with another digest: %s" % end.stderr
    return wrong or job.resumes_once(corpus), came


def sweep(job, wanted, rng):
    """Each chosen call fails, with one of its errors; half of them for good."""
    seen = []
    corpus = job.corpus()
    job.trace(corpus, CHANGES, seen.append, below=corpus)
    cases, bad = [], 0
    for call in thin(seen, wanted, rng, corpus):
        # all errors in the long sweep, else one each
        for error in says(call) if wanted is None else (rng.choice(says(call)),):
            for lasting in (False, True) if wanted is None else (rng.random() < 0.5,):
                cases.append((call.n, error, lasting))
    for (at, error, lasting), (wrong, came) in spread(cases, lambda *case: fault(job, *case)):
        if wrong:
            bad += 1
            note("--at %d %s %s: %s: %s" % (at, error, "on" if lasting else "once", came, wrong))
    note("they left %d states" % len(job.resumed))
    check(cases and not bad, "I5 each of %d failing writes, fsyncs, opens and renames of %d ends in one line and loses nothing"
          % (len(cases), len(seen)), "%d were bad" % bad)


READS = {"read": ("EIO",), "pread64": ("EIO",), "openat": ("EIO", "EMFILE", "EACCES"), "openat2": ("EIO", "EMFILE"),
         "getdents64": ("EIO",), "newfstatat": ("EIO",), "access": ("EIO",), "faccessat2": ("EIO",), "fcntl": ("EIO", "ENOLCK"), "mmap": ("ENOMEM",),
         "memfd_create": ("EMFILE",), "socketpair": ("EMFILE",), "pipe2": ("EMFILE",)}


def look_fails(job, at, error):
    """Run with look `at` at a file failing; what is wrong, or None, and whether the look came."""
    corpus, came = job.corpus(), []

    def decide(now):
        if now.n == 1 and at > 2:
            return "skip %d" % (at - 2)
        if now.n == at:
            came.append(str(now))
            return "fail %d" % number(error)
        return "alone" if came else None

    end = job.trace(corpus, READS, decide)
    wrong = job.fault_is_told(end, (3, 5)) or job.acked_is_there(corpus, end.stderr)
    if not wrong and end.returncode == 0 and job.digest(corpus) != job.reference:
        wrong = "it ended well, with another digest: %s" % end.stderr
    return wrong or job.resumes_once(corpus), came


def looks(job, wanted, rng):
    """Each chosen look at a file fails, wherever the file is: nothing is taken for empty or absent that is not."""
    begun, seen, bad = [], [], 0

    def ours(call, corpus):
        begun.extend([True] if call.path == corpus + "/lock" else [])
        if call.path.startswith((job.tmp, root)):
            return begun
        return begun and not call.path.startswith(("/proc", "/dev", "/sys")) and call.name not in ("openat", "newfstatat")

    corpus = job.corpus()
    job.trace(corpus, READS, lambda call: seen.append(call) if ours(call, corpus) else None)
    cases = [(call.n, rng.choice(READS[call.name])) for call in thin(seen, wanted, rng, corpus)]
    for (at, error), (wrong, came) in spread(cases, lambda *case: look_fails(job, *case)):
        if wrong:
            bad += 1
            note("%s %s: %s" % (came, error, wrong))
    check(cases and not bad, "I5 each of %d failing reads and looks of %d ends in one line and alters nothing"
          % (len(cases), len(seen)), "%d were bad" % bad)


def worlds(job):
    """A world that the disk does not tell of is no world that is not there; nor does one that is gone end in a crash."""
    seen, wrong = [], []
    corpus = job.corpus()
    job.trace(corpus, READS, seen.append)
    for call in [c for c in seen if c.name == "newfstatat" and c.path.endswith("/work/cars/retrieve/world.db")][:2]:
        wrong.append(look_fails(job, call.n, "EIO"))
    check(wrong and all(w is None and came for w, came in wrong), "I5 a look at a world that fails is one line", wrong)
    corpus = job.corpus()
    job.trace(corpus, CHANGES, lambda call: "kill" if "retrieve: done" in call.said() else None, below=corpus)
    os.unlink(corpus + "/work/cars/retrieve/world.db")
    done = run(job.command(corpus))
    check(done.returncode == 2 and "it has no world" in done.stderr and done.stderr.count("error") == 1,
          "I5 a world that somebody took away is one line", "exit code %d: %s" % (done.returncode, done.stderr))


def verbs(job, rng, n):
    """agon hash and the like over a disk that fails: the same words, or one line and no 0."""
    bad = []
    for verb in (["hash"], ["ls"], ["log"], ["verify"], ["show", "cars/t1_l1"]):
        command = [job.agon, verb[0], job.reference_corpus] + verb[1:]
        whole = trace(job.tracer, command, READS, lambda call: None, below=job.tmp)
        for at in sorted(rng.sample(range(1, whole.n + 1), min(n, whole.n))):
            end = trace(job.tracer, command, READS, lambda call: "fail %d" % number("EIO") if call.n == at else None,
                        below=job.tmp)
            if not (end.returncode == 0 and end.stdout == whole.stdout) and (
                    end.returncode not in (2, 3) or len(end.errors()) != 1):
                bad.append("agon %s, call %d: exit code %d: %s%s" % (verb, at, end.returncode, end.stdout[-300:], end.stderr))
                note(bad[-1])
    check(not bad, "I5 a verb over a disk that fails says what it would have said, or one line", "%d were bad" % len(bad))


def short(job):
    corpus = job.corpus()
    end = job.trace(corpus, ["write", "pwrite64", "read", "pread64"],
                    lambda call: "short %d" % ((call.args[2] + 1) // 2) if call.args[2] > 1 else None, below=corpus)
    check(end.returncode == 0 and job.digest(corpus) == job.reference, "I6 reads and writes that do half their work change nothing",
          end.stderr)


def each_once(job, calls, error, claim, model=None):
    """Each such call fails with `error` before it is made; the program makes it again. From the corpus's lock on:
    what loads the program is not ours."""
    last, begun = [], []

    def decide(call):
        begun.extend([True] if call.path == corpus + "/lock" else [])
        # libseccomp writes its filter itself
        again = not begun or call.path.startswith("/memfd:") or last == [call.name, call.args]
        last[:] = [] if again else [call.name, call.args]
        return None if again else "fail %d" % number(error)

    corpus = job.corpus()
    end = job.trace(corpus, calls, decide, model=model)
    check(end.returncode == 0 and job.digest(corpus) == (job.program_digest if model else job.reference), "I6 %s (%d calls)" % (claim, end.n),
          "exit code %d: %s" % (end.returncode, end.stderr))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("agon")
    p.add_argument("trace")
    p.add_argument("--calls", type=int, default=14)
    p.add_argument("--long", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", help="interrupted, changes, looks, worlds or verbs")
    p.add_argument("--at", nargs=3)
    o = p.parse_args()
    job = Job(o.agon, o.trace)
    rng, n = random.Random(o.seed), None if o.long else o.calls
    parts = {
        "interrupted": lambda: (
            short(job), each_once(job, INTERRUPTED, "EINTR", "what a signal may interrupt is done again"),
            each_once(job, INTERRUPTED, "EINTR", "and so is what talks to a model's program", job.program),
            each_once(job, ["openat2"], "EAGAIN", "a path lookup that raced with a rename is done again")),
        "changes": lambda: sweep(job, n, rng),
        "looks": lambda: looks(job, n, rng),
        "worlds": lambda: worlds(job),
        "verbs": lambda: verbs(job, rng, 40 if o.long else 3),
    }
    if o.at:
        print(fault(job, int(o.at[0]), o.at[1], o.at[2] == "on"))
    for name in [] if o.at else [o.only] if o.only else parts:
        parts[name]()
    job.close()
    finish()


main()
