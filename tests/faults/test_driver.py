#!/usr/bin/env python3
"""What befalls a driver and its corpus from outside: rows I2 and I7 to I15 of the attacks, one claim each.

Usage: test_driver.py AGON TRACE PRELOAD; speaks TAP.
"""
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

from faults import Ended, Job, cells_of, check, finish, number, processes_below, root, run, skip

agon, tracer, preload = sys.argv[1:4]
job = Job(agon, tracer)
nobody = 65534


def one_line(done, code, *words):
    """The end of a refused or stopped run: the code, one line, and what it says."""
    errors = [l for l in done.stderr.splitlines() if l.startswith("error")]
    return done.returncode == code and len(errors) == 1 and all(w in errors[0] for w in words)


def why(done):
    return "exit code %d: %s" % (done.returncode, done.stderr)


# ---- I2, I7: processes of the run are killed

def killing(chosen, moments, job=job):
    """A run in which chosen(processes) are killed -9 while the driver stands at each of the moments (numbers of its polls)."""
    corpus, struck = job.corpus(), []

    def decide(call):
        if call.n in moments:
            drivers = [p for p, n in processes_below(os.getpid()).items() if n.startswith(agon) and corpus in n]
            for p in chosen(processes_below(min(drivers))):
                try:
                    os.kill(p, signal.SIGKILL)
                    struck.append(p)
                except ProcessLookupError:
                    pass
        return "alone" if call.n >= max(moments) else None

    end = job.trace(corpus, ["poll"], decide)
    return corpus, end, struck


def boxes(processes):
    return [p for p, n in processes.items() if "bwrap" in n]


corpus = job.corpus()
polls = job.trace(corpus, ["poll"], lambda call: None).n
rng = random.Random(1)
for name, chosen, n in (("worker", cells_of, 4), ("box", boxes, 3)):
    bad, n_struck = [], 0
    for at in sorted(rng.sample(range(1, polls), n)):
        corpus, end, struck = killing(chosen, [at])
        n_struck += len(struck)
        if end.returncode or job.digest(corpus) != job.reference:
            bad.append("at poll %d: %s" % (at, why(end)))
    check(not bad and n_struck, "I2 a %s killed under a call is replaced, and the run makes what it would have made" % name,
          bad or "none was there")

def launcher(processes):
    """The process that starts the boxes: the driver's own child, a copy of it."""
    return [p for p, n in processes.items() if n.startswith(agon)]


corpus, end, struck = killing(launcher, [polls // 2])
check(struck and one_line(end, 3) and not job.acked_is_there(corpus, end.stderr),
      "I2 a killed supervisor of the boxes ends the run in one line", why(end))
wrong = job.resumes(corpus)
check(not wrong, "I2 and the same command goes on", wrong)
deadline, left = time.time() + 5, True
while left and time.time() < deadline:
    left = [n for n in processes_below(1).values() if "--cell=" in n and corpus in n]
    time.sleep(0.1)
check(not left, "I2 no process of its boxes is left", left)

# ---- I9: two drivers

corpus = job.corpus()
slow = subprocess.Popen(job.command(corpus, job.program + " --sleep 0.3"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
lock = os.path.join(corpus, "lock")
while not (os.path.exists(lock) and open(lock).read().strip()):
    time.sleep(0.02)
alias = os.path.join(job.tmp, "alias")
os.symlink(corpus, alias)
second = run(job.command(alias, job.program + " --sleep 0.3"))
check(one_line(second, 4, "process %d" % slow.pid), "I9 a second driver by another name of the folder is refused", why(second))
os.unlink(alias)
os.mkdir(alias)
second = run(["bwrap", "--dev-bind", "/", "/", "--bind", corpus, alias, "--"] + job.command(alias, job.program + " --sleep 0.3"))
if "bwrap:" in second.stderr:
    skip("I9 a second driver over a bind mount is refused", "no namespaces here")
else:
    check(one_line(second, 4, "process %d" % slow.pid), "I9 a second driver over a bind mount is refused", why(second))
os.kill(slow.pid, signal.SIGKILL)
slow.wait()
with open(lock, "w") as f:
    f.write("1\n") # of a process that lives: a pid is no lock
third = run(job.command(corpus, job.program + " --sleep 0.3"))
check(third.returncode == 0 and job.acked_is_there(corpus, third.stderr) is None,
      "I9 a killed driver's lock is free, whatever pid stands in it", why(third))

# ---- I10: formats

def changed(sql):
    copy = job.corpus()
    shutil.copytree(job.reference_corpus, copy)
    db = sqlite3.connect(os.path.join(copy, "corpus.db"))
    db.execute(sql)
    db.commit()
    db.close()
    return copy


for version in "0", "2", "99":
    copy = changed("UPDATE meta SET value = '%s' WHERE key = 'format'" % version)
    before = open(os.path.join(copy, "corpus.db"), "rb").read()
    done = run(job.command(copy))
    seen = run([agon, "ls", copy])
    check(one_line(done, 2, "format %s" % version) and one_line(seen, 2, "format %s" % version)
          and open(os.path.join(copy, "corpus.db"), "rb").read() == before,
          "I10 a corpus of format %s is refused and left as it is" % version, why(done) + why(seen))
copy = changed("UPDATE environments SET next = 'brew', status = 'open'")
done = run(job.command(copy))
check(one_line(done, 2, "unknown step 'brew'"), "I10 a step that this program does not know is refused", why(done))
copy = job.corpus()
os.mkdir(copy)
db = sqlite3.connect(os.path.join(copy, "corpus.db"))
db.execute("CREATE TABLE recipes(id INTEGER PRIMARY KEY)")
db.commit()
db.close()
done = run(job.command(copy))
tables = [r[0] for r in sqlite3.connect(os.path.join(copy, "corpus.db")).execute("SELECT name FROM sqlite_schema")]
check(one_line(done, 2, "something else") and tables == ["recipes"], "I10 another program's corpus.db is not written to", why(done))


def stopped_after(stage):
    """A corpus whose driver was killed when it had said that `stage` was done."""
    copy = job.corpus()
    job.trace(copy, ["mkdir"], lambda call: "kill" if stage + ": done" in call.said() else None, below=copy)
    return copy


for what, old, new, words in (("a newer format", '"format_version": 1', '"format_version": 7, "colour": "blue"', "format_version 7"),
                              ("an unknown field", '"family":', '"colour": "blue",\n  "family":', "env.json")):
    copy = stopped_after("tools")
    path = os.path.join(copy, "work/cars/tools/env.json")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace(old, new))
    done = run(job.command(copy))
    check(text != text.replace(old, new) and one_line(done, 2, words), "I10 a draft with %s is refused" % what, why(done))

# ---- I11: other settings

other = os.path.join(job.tmp, "other.jsonl")
shutil.copy(job.recording, other)
for what, args, name in (("model", {"model": "replay:" + other}, "author"), ("seed", {"more": ("--seed", "9")}, "seed"),
                         ("source", {"more": ("--source", os.path.join(root, "tests/web"))}, "library")):
    done = run(job.command(job.reference_corpus, args.get("model"), *args.get("more", ())))
    check(one_line(done, 6, name), "I11 going on with another %s is refused" % what, why(done))
check(job.digest(job.reference_corpus) == job.reference, "I11 and changes nothing")

# ---- I13: paths

for name in "with spaces", "with\nnewline", "-dash", "ünï'\"%s$HOME", "tab\there":
    corpus = os.path.join(job.tmp, name)
    done = run(job.command(corpus))
    check(done.returncode == 0 and job.digest(corpus) == job.reference, "I13 a corpus may be called %r" % name, why(done))
for size in 300, 355, 400, 1000, 4000, 4095, 5000:
    path = job.tmp
    while len(path) < size - 1:
        path += "/" + "d" * min(200, size - len(path) - 1)
    done = run(job.command(path))
    if size <= 355:
        check(done.returncode == 0 and job.digest(path) == job.reference, "I13 a path of %d bytes will do" % len(path), why(done))
    else:
        check(one_line(done, 2, "too long") and not os.path.exists(path), "I13 one of %d bytes is refused before any work" % len(path),
              why(done))
corpus = os.path.join(job.tmp, "missing/one/two")
done = run(job.command(corpus))
check(done.returncode == 0 and job.digest(corpus) == job.reference, "I13 missing folders are made", why(done))
blocked = os.path.join(job.tmp, "file")
open(blocked, "w").close()
done = run(job.command(blocked))
check(one_line(done, 3, "Not a directory"), "I13 a file in the place of the corpus is refused", why(done))

if os.geteuid() == 0:
    os.chmod(job.tmp, 0o755)
    others = job.corpus()
    shutil.copytree(job.reference_corpus, others)

    def as_nobody():
        os.setgroups([])
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)

    done = subprocess.run(job.command(others), capture_output=True, text=True, preexec_fn=as_nobody, timeout=60)
    check(one_line(done, 3, "ermission denied"), "I13 another user's corpus is refused before any work", why(done))
    os.chmod(os.path.join(others, "corpus.db"), 0)
    os.chmod(others, 0o700)
    done = subprocess.run([agon, "ls", others], capture_output=True, text=True, preexec_fn=as_nobody, timeout=60)
    check(one_line(done, 3, "ermission denied"), "I13 one that may not be read says so", why(done))

# ---- I14: the folder goes away under the run

def gone(how, at):
    corpus, struck = job.corpus(), []

    def decide(call):
        if call.n == at:
            struck.append(call)
            how(corpus)
            return "alone"

    end = job.trace(corpus, ["poll"], decide)
    return corpus, end


def replaced(corpus):
    os.rename(corpus, corpus + ".away")
    os.mkdir(corpus + ".trap")
    os.symlink(corpus + ".trap", corpus)


def recreated(corpus):
    os.rename(corpus, corpus + ".away")
    os.mkdir(corpus)


for name, how in (("deleted", shutil.rmtree), ("replaced by a link", replaced), ("replaced by a new folder", recreated)):
    bad = []
    for at in polls // 5, polls // 2, polls - 2:
        corpus, end = gone(how, at)
        # a run that had committed all may end well
        if not one_line(end, 3, "deleted or replaced"):
            bad.append("at poll %d of %d: %s" % (at, polls, why(end)))
        if os.path.isdir(corpus + ".away"):
            shutil.rmtree(corpus, ignore_errors=True)
            if os.path.islink(corpus):
                os.unlink(corpus)
            os.rename(corpus + ".away", corpus)
            wrong = job.resumes(corpus)
            if wrong:
                bad.append("moved back, poll %d: %s" % (at, wrong))
    check(not bad, "I14 a corpus that is %s during the run ends it in one line" % name, bad)

# ---- I15: descriptors and processes run out

for limit in 12, 20, 32, 64:
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    corpus = job.corpus()
    done = run(job.command(corpus), preexec_fn=few_files)
    wrong = job.fault_is_told(Ended(done.returncode, done.stdout, done.stderr, 0)) or job.resumes(corpus)
    check(not wrong and (done.returncode == 0 or "open files" in done.stderr),
          "I15 with %d descriptors a run works or says so" % limit,
          wrong or why(done))


def no_more_processes(call):
    return "fail %d" % number("EAGAIN")


corpus = job.corpus()
end = job.trace(corpus, ["clone", "clone3", "fork", "vfork"], no_more_processes)
check(one_line(end, 3, "fork") and not job.resumes(corpus), "I15 a driver that can start no process says so", why(end))
if os.geteuid() == 0:
    home = os.path.join(job.tmp, "nobody")
    os.mkdir(home)
    os.chown(home, nobody, nobody)

    def few_processes():
        as_nobody()
        resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))

    crowd = [subprocess.Popen(["sleep", "60"], preexec_fn=as_nobody) for _ in range(4)]
    corpus = os.path.join(home, "corpus")
    done = subprocess.run(job.command(corpus), capture_output=True, text=True, preexec_fn=few_processes, timeout=120)
    for p in crowd:
        p.kill()
        p.wait()
    check(one_line(done, 3), "I15 a user without processes left is told so", why(done))

# ---- the clock

bad = []
for seed in "1", "7":
    corpus = job.corpus()
    done = run(job.command(corpus), env={**os.environ, "LD_PRELOAD": preload, "AGON_FAULT_CLOCK": seed})
    if done.returncode or job.digest(corpus) != job.reference:
        bad.append(why(done))
check(not bad, "I12 a clock that jumps by years at each look changes nothing", bad)

job.close()
finish()
