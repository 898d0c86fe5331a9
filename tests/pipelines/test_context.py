#!/usr/bin/env python3
"""agon synth and replay where the window fills up: summaries, and several trajectories a rollout.

Usage: test_context.py AGON SOURCE_ROOT; speaks TAP.
"""
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, run, skip  # noqa: E402

tmp = tempfile.mkdtemp(prefix="agon-context-")
program = "exec+lines:python3 %s --mistakes 0 " % os.path.join(root, "tests/synth/author_program.py")


def synth(corpus, model, *more):
    return run([agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), "--category", "cars: road tests of cars",
                "--source", os.path.join(root, "tests/synth/docs"), "--model", model, "--levels", "2", "--lines", "1",
                "--rollouts", "3", "--rollouts-max", "3", *more])


def digest(corpus):
    return run([agon, "hash", os.path.join(tmp, corpus)]).stdout.strip()


def replay(corpus):
    return run([agon, "replay", os.path.join(tmp, corpus)])


def rollouts(corpus, columns):
    with sqlite3.connect(os.path.join(tmp, corpus, "corpus.db")) as db:
        rows = db.execute("SELECT %s FROM rollouts ORDER BY task, idx" % columns).fetchall()
    db.close()
    return rows


# ---- summary
flood = program + "--solver-mistakes 0 --flood"
recording = os.path.join(tmp, "recording.jsonl")
done = synth("summary", flood, "--context", "summary", "--record", recording)
if done.returncode == 3 and not os.environ.get("AGON_BOX_MUST_WORK"):
    skip("agon synth --context", done.stderr.strip())
    finish()
check(done.returncode == 0 and "2 of 2 tasks kept" in done.stdout, "rollouts that fill the window sum it up and pass",
      done.stdout + done.stderr)
rows = rollouts("summary", "resets, verdict, transcript")
check(rows and all(r[:2] == (1, "pass") for r in rows), "each was begun anew once", [r[:2] for r in rows])
first, second = json.loads(rows[0][2])
check(first[-1]["content"] in second[1]["content"] and second[0] == first[0] and len(second) < 6 < len(first),
      "with the task and what the model had noted", second)
again = replay("summary")
check(again.returncode == 0 and ": 0 differ" in again.stdout, "what was stored comes again", again.stdout + again.stderr)
done = synth("replayed", "replay:" + recording, "--context", "summary", "--parallel", "1", "--jobs", "1")
check(done.returncode == 0 and rollouts("replayed", "transcript") == [(r[2],) for r in rows],
      "summaries stand in a recording, too", done.stderr)
done = synth("full", flood, "--context", "none")
check(done.returncode == 0 and not any(r != (0, "none") for r in rollouts("full", "resets, verdict")),
      "without, none comes to an answer", done.stderr)

# ---- parallel-fewest-step
more = ["--context", "parallel-fewest-step", "--trajectories", "3"]
mistakes = program + "--solver-mistakes 0.8"
recording = os.path.join(tmp, "trajectories.jsonl")
done = synth("parallel", mistakes, "--parallel", "1", "--record", recording, *more)
check(done.returncode == 0, "a rollout may be several trajectories", done.stderr)
check(len(rollouts("parallel", "idx")) == 6, "of which one is stored")
other = synth("wider", mistakes, "--parallel", "64", *more)
check(other.returncode == 0 and digest("wider") == digest("parallel"), "however many are in flight", other.stderr)
tries = {} # (task, rollout): [(no answer?, turns, trajectory)]
with open(recording) as f:
    for line in f:
        m = re.match(r"cars/solve_(\w+)/(\d+)/(\d+)/(\d+)\.0$", json.loads(line).get("key", ""))
        if m:
            said = json.loads(line)
            parsed = said["end"] == "ok"
            answered = parsed and m[4] != "0" and "submit_result" in said["text"] and "not json" not in said["text"]
            one = tries.setdefault((m[1], int(m[2])), {}).setdefault(int(m[3]), [True, 0, int(m[3])])
            one[0] &= not answered
            one[1] += parsed
wanted = [(task, i, min(tries[task, i].values())[1]) for task, i in sorted(tries)]
check(all(len(t) == 3 for t in tries.values()) and rollouts("parallel", "task, idx, turns") == wanted,
      "the one that answered in the fewest turns", [wanted, tries])
again = replay("parallel")
check(again.returncode == 0 and ": 0 differ" in again.stdout, "and comes again", again.stdout + again.stderr)
done = synth("parallel", mistakes, "--context", "parallel-fewest-step", "--trajectories", "2")
check(done.returncode == 6 and "begun with trajectories 3, now it is 2" in done.stderr, "their number is the corpus's", done.stderr)

environment = os.path.join(tmp, "summary", "environments", "cars")
out = os.path.join(tmp, "out.jsonl")
done = run([agon, "solve", environment, "--model", flood, "-n", "1", "--context", "summary", "--out", out])
with open(out) as f:
    lines = [json.loads(line) for line in f]
check(done.returncode == 0 and {(l["verdict"], len(l["transcript"])) for l in lines} == {("pass", 2)}, "agon solve does the same",
      done.stderr)
done = run([agon, "solve", environment, "--model", flood, "--context", "discard"])
check(done.returncode == 2 and "'discard' is none of none, discard-75, discard-all, summary, parallel-fewest-step" in done.stderr,
      "another name is refused", done.stderr)
shutil.rmtree(tmp, ignore_errors=True)
finish()
