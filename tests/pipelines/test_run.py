#!/usr/bin/env python3
"""agon synth as a whole: a recorded run replayed, killed, locked out, short of disk, refused.

Usage: test_run.py AGON SOURCE_ROOT [--long]; speaks TAP.
"""
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, run, skip  # noqa: E402

replay = os.path.join(root, "tests/synth/replays/cars.jsonl")
docs = os.path.join(root, "tests/synth/docs")
program = "exec+lines:python3 %s" % os.path.join(root, "tests/synth/author_program.py")
tmp = tempfile.mkdtemp(prefix="agon-run-")
KILLS = 20


def command(corpus, model="replay:" + replay, *more, levels=5, lines=1):
    return [agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), "--category",
            "cars: road tests of cars", "--source", docs, "--model", model, "--levels", str(levels),
            "--lines", str(lines), "--rollouts", "8", *more]


def digest(corpus):
    return run([agon, "hash", os.path.join(tmp, corpus)]).stdout.strip()


def one_line(done):
    """Errors are one line on stderr."""
    return len([l for l in done.stderr.splitlines() if l.startswith("error")]) == 1


# ---- a recorded run, replayed
whole = run(command("whole"))
check(whole.returncode == 0, "a recorded author's run of five levels replays byte for byte", whole.stderr)
check(re.search(r"5 of 5 tasks kept, the highest of level 5", whole.stdout), "its five levels are kept", whole.stdout)
reference = digest("whole")
check(len(reference) == 64, "a corpus has a digest", reference)
again = run(command("whole"))
check(again.returncode == 0 and digest("whole") == reference, "a finished run run again changes nothing", again.stderr)
verified = run([agon, "verify", os.path.join(tmp, "whole")])
check(verified.returncode == 0, "what was made verifies", verified.stdout + verified.stderr)
for threads in "1", "2":
    done = run(command("threads" + threads, "replay:" + replay, "--threads", threads, "--parallel", threads))
    check(done.returncode == 0 and digest("threads" + threads) == reference,
          "the digest is the same with %s threads" % threads, done.stderr)

# ---- killed at random moments
rng = random.Random(1)
start = time.time()
run(command("timed"))
span = time.time() - start
kills, ended = 0, []
while kills < KILLS:
    child = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rng.random() * span / 2)
    if child.poll() is None:
        kills += 1
    else: # it came to its end between two kills: look at it and begin anew
        ended.append(digest("killed"))
        shutil.rmtree(os.path.join(tmp, "killed"))
    child.kill()
    child.wait()
done = run(command("killed"))
ended.append(digest("killed"))
check(done.returncode == 0 and set(ended) == {reference},
      "runs killed %d times in all end as one that was not" % KILLS, [done.stderr] + ended)
left = os.listdir(os.path.join(tmp, "killed", "work"))
check(not left, "nothing of the dead drivers is left", left)

# ---- several categories
cats = os.path.join(tmp, "cats.txt")
with open(cats, "w") as f:
    f.write("# three on one table\ncars_a: road tests of cars\ncars_b: fuel consumption of cars\n"
            "cars_c: design and power of cars\n")


def several(corpus, *more):
    return run([agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), "--categories", cats, "--source", docs,
                "--model", program, "--levels", "2", "--rollouts", "4"] + list(more))


one, many = several("one", "--jobs", "1"), several("many", "--jobs", "8", "--parallel", "5")
check(one.returncode == 0 and many.returncode == 0 and digest("one") == digest("many"),
      "categories side by side make what they make one after another", one.stderr + many.stderr)
done = run([agon, "log", os.path.join(tmp, "one"), "--kind", "duplicate"])
check("cars_c" in done.stdout and "cars_a 1 " not in done.stdout, "near-duplicates across environments leave, the later ones",
      done.stdout)
check(run([agon, "verify", os.path.join(tmp, "one")]).returncode == 0, "what is left verifies")
parts = [several("rank%d" % r, "--rank", str(r), "--ranks", "2") for r in range(2)]
listed = [run([agon, "ls", os.path.join(tmp, "rank%d" % r)]).stdout for r in range(2)]
check(all(p.returncode == 0 for p in parts) and sorted(re.findall(r"^cars_.", "".join(listed), re.M)) == ["cars_a", "cars_b", "cars_c"],
      "ranks split the categories", listed)

# ---- joined again


def merge(out, *parts):
    return run([agon, "merge"] + [os.path.join(tmp, p) for p in (out,) + parts])


done = merge("joined", "rank1", "rank0")
check(done.returncode == 0 and digest("joined") == digest("one"), "ranks joined are the run without ranks, to the digest",
      done.stdout + done.stderr)
check("near-duplicates left out" in done.stdout and run([agon, "verify", os.path.join(tmp, "joined")]).returncode == 0,
      "near-duplicates across ranks leave, what is left verifies", done.stdout)
done = several("joined")
check(done.returncode == 0 and digest("joined") == digest("one"), "the run without ranks has nothing left to do in it", done.stderr)
for parts, words in ((("rank0",), "rank 1 of 2 is missing"), (("rank0", "rank0"), "are both rank 0 of 2"),
                     (("rank0", "whole"), "are parts of different runs"), (("rank0", "nothing"), "is no corpus")):
    done = merge("refused", *parts)
    check(done.returncode == 2 and one_line(done) and words in done.stderr and not os.path.exists(os.path.join(tmp, "refused")),
          "merge refuses: " + words, done.stderr)
done = merge("whole", "rank0", "rank1")
check(done.returncode == 2 and "holds a corpus already" in done.stderr and digest("whole") == reference,
      "merge leaves a corpus that is there", done.stderr)
child = subprocess.Popen([agon, "merge"] + [os.path.join(tmp, p) for p in ("half", "rank0", "rank1")],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(0.02)
child.kill()
child.wait()
shutil.copytree(os.path.join(tmp, "joined"), os.path.join(tmp, "marked"))
with sqlite3.connect(os.path.join(tmp, "marked", "corpus.db")) as db:
    db.execute("INSERT INTO meta VALUES('merging', '1')")
halves = [merge(out, "rank0", "rank1") for out in ("half", "marked")]
check(all(d.returncode == 0 or "holds a corpus already" in d.stderr for d in halves) and digest("half") == digest("marked") == digest("one"),
      "a merge that was killed is begun anew", [d.stderr for d in halves])
done = merge("sides", "one", "whole")
check(done.returncode == 0 and not set("cars cars_a".split()) - set(re.findall(r"^cars\w*", run([agon, "ls", os.path.join(tmp, "sides")]).stdout, re.M))
      and run([agon, "verify", os.path.join(tmp, "sides")]).returncode == 0, "corpora of different runs stand side by side", done.stdout + done.stderr)
done = several("sides")
check(done.returncode == 6 and one_line(done) and "joined of different runs" in done.stderr, "no run goes on in them", done.stderr)
done = merge("clash", "one", "joined")
check(done.returncode == 2 and "names must differ" in done.stderr, "one name in two parts is refused", done.stderr)

# ---- never passed
done = run(command("hopeless", program + " --mistakes 0 --solver-mistakes 1", "--rollouts-max", "30", levels=1))
check(done.returncode == 0 and "0 of 1 tasks kept" in done.stdout, "a task that is never passed is not kept", done.stdout)
done = run([agon, "ls", os.path.join(tmp, "hopeless"), "cars"])
check("0/30" in done.stdout and "no pass in 30 rollouts" in done.stdout, "its rollouts went on to the most", done.stdout)
done = run(command("rare", program + " --mistakes 0 --solver-mistakes 0.9", "--rollouts-max", "60", levels=1))
done = run([agon, "ls", os.path.join(tmp, "rare"), "cars"])
found = re.search(r" (\d+)/(\d+) ", done.stdout)
check(found and (int(found[2]) == 8 or found[1] == "1"), "beyond the first rollouts the first pass is the last", done.stdout)

# ---- two drivers
slow = subprocess.Popen(command("shared", program + " --mistakes 0 --sleep 0.3"), stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
lock = os.path.join(tmp, "shared", "lock")
for _ in range(200):
    if os.path.exists(lock) and open(lock).read().strip():
        break
    time.sleep(0.05)
second = run(command("shared", program + " --mistakes 0 --sleep 0.3"))
check(second.returncode == 4 and one_line(second) and "process %d" % slow.pid in second.stderr,
      "a second driver on one corpus is refused with the first one's pid", second.stderr)
slow.kill()
slow.wait()
third = run(command("shared", program + " --mistakes 0 --sleep 0.3", "--seed", "2"))
check(third.returncode in (0, 6), "the lock of a killed driver is free", third.stderr)

gone = subprocess.Popen(command("gone", program + " --mistakes 0 --sleep 0.2"), stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE, text=True)
while not os.path.exists(os.path.join(tmp, "gone", "corpus.db")):
    time.sleep(0.05)
os.rename(os.path.join(tmp, "gone"), os.path.join(tmp, "away"))
said = gone.communicate(timeout=120)[1]
check(gone.returncode == 3 and "deleted or replaced" in said, "a corpus that is moved away under a run ends it in one line", said)

# ---- refusals
for option, value, name in (("--seed", "2", "seed"), ("--rollouts-max", "50", "rollouts-max"),
                            ("--temperature", "0.1", "temperature"), ("--category", "b: c", "categories")):
    done = run(command("whole", "replay:" + replay, option, value))
    check(done.returncode == 6 and one_line(done) and name in done.stderr,
          "resuming with another %s is refused" % name, done.stderr)
check(digest("whole") == reference, "refusals change nothing")
done = run([agon, "synth", "general", "--corpus", os.path.join(tmp, "none"), "--categories", tmp + "/missing.txt"])
check(done.returncode == 2 and one_line(done) and "missing.txt" in done.stderr, "an unknown category file is named",
      done.stderr)
bad = os.path.join(tmp, "bad.txt")
with open(bad, "w") as f:
    f.write("cars: road tests\nthis line has no id\n")
done = run([agon, "synth", "general", "--corpus", os.path.join(tmp, "none"), "--categories", bad])
check(done.returncode == 2 and one_line(done) and "bad.txt:2" in done.stderr, "a bad line of it is named by number",
      done.stderr)
check(not os.path.exists(os.path.join(tmp, "none")), "nothing is made before the input is read")
done = run([agon, "synth", "cooking", "--corpus", os.path.join(tmp, "none")])
check(done.returncode == 2 and one_line(done), "an unknown family is refused", done.stderr)
done = run(command("nomodel", "replay:" + tmp + "/missing.jsonl"))
check(done.returncode in (2, 5) and one_line(done), "a missing recording is one line", done.stderr)
done = run(command("nowhere", "http://127.0.0.1:9/v1"))
check(done.returncode == 5 and one_line(done), "an unreachable endpoint is one line", done.stderr)

# ---- storage
done = run(command("/proc/agon"))
done = run([agon, "synth", "general", "--corpus", "/proc/agon", "--category", "cars: x"])
check(done.returncode == 3 and one_line(done), "a corpus that can't be made is one line", done.stderr)
if shutil.which("bwrap"):
    done = run(["bwrap", "--dev-bind", "/", "/", "--ro-bind", os.path.join(tmp, "whole"), os.path.join(tmp, "whole"), "--"]
               + command("whole"))
    if "bwrap:" in done.stderr:
        skip("a read-only corpus is refused", "no namespaces here")
    else:
        check(done.returncode == 3 and one_line(done) and "Read-only" in done.stderr, "a read-only corpus is refused",
              done.stderr)
for limit in 40, 120, 300:
    def short_of_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, limit * 1024))
    full = run(command("full"), preexec_fn=short_of_disk)
    check(full.returncode == 3 and one_line(full), "no room beyond %d KiB is one line" % limit, full.stderr)
done = run(command("full"))
check(done.returncode == 0 and digest("full") == reference, "and with room again nothing is lost", done.stderr)

# ---- what was made is looked at
for args, part in ((["ls"], "cars"), (["ls", "cars"], "t1_l5"), (["show", "cars/t1_l2"], "solution.lua"),
                   (["show", "cars/t1_l2"], "negatives: 2"),
                   (["show", "cars", "--stage", "retrieve"], "import_table"),
                   (["show", "cars/t1_l1", "--rollout", "0"], "submit_result"), (["log", "cars"], "stage_done")):
    done = run([agon, args[0], os.path.join(tmp, "whole")] + args[1:])
    check(done.returncode == 0 and part in done.stdout, "agon %s shows %s" % (" ".join(args), part), done.stderr)
rollouts = os.path.join(tmp, "rollouts.jsonl")
done = run([agon, "solve", os.path.join(tmp, "whole"), "--model", program + " --solver-mistakes 0", "--rollouts", "3",
            "--task", "t1_l2", "--out", rollouts])
check(done.returncode == 0 and "3/3" in done.stdout and len(open(rollouts).readlines()) == 3 and digest("whole") == reference,
      "agon solve measures another model and changes nothing", done.stdout + done.stderr)
shell = run([agon, "shell", os.path.join(tmp, "whole"), "cars/t1_l1"],
            input=".tools\nSELECT count(*) AS n FROM mtcars\n.gold\n.transcript 0\n.step all\n")
check(shell.returncode == 0 and " n\n--\n32\n" in shell.stdout and "\nverdict\npass" in shell.stdout and "end: " in shell.stdout,
      "the shell shows a corpus from inside", shell.stdout + shell.stderr)
victim = os.path.join(tmp, "whole/environments/cars/tasks/t1_l1/verifier.lua")
with open(victim, "a") as f:
    f.write("\n")
done = run([agon, "verify", os.path.join(tmp, "whole")])
check(done.returncode == 1 and "verifier.lua" in done.stdout, "one altered byte fails agon verify", done.stdout)
check(digest("whole") != reference, "and changes the digest")

shutil.rmtree(tmp, ignore_errors=True)
finish()
