#!/usr/bin/env python3
"""agon replay: stored rollouts made again; whatever differs is named.

Usage: test_replay.py AGON SOURCE_ROOT; speaks TAP.
"""
import os
import shutil
import sqlite3
import sys
import tempfile

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, run, skip  # noqa: E402

tmp = tempfile.mkdtemp(prefix="agon-replay-")
corpus = os.path.join(tmp, "corpus")
program = "exec+lines:python3 %s" % os.path.join(root, "tests/synth/author_program.py")


def replay(*args):
    return run([agon, "replay", corpus, *args])


def change(sql, *values):
    with sqlite3.connect(os.path.join(corpus, "corpus.db")) as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


def stored(column, task, index):
    with sqlite3.connect(os.path.join(corpus, "corpus.db")) as db:
        text = db.execute("SELECT %s FROM rollouts WHERE task = ? AND idx = ?" % column, (task, index)).fetchone()[0]
    db.close()
    return text


made = run([agon, "synth", "general", "--corpus", corpus, "--category", "cars: road tests of cars", "--category",
            "more_cars: fuel consumption of cars", "--source", os.path.join(root, "tests/synth/docs"), "--model",
            program + " --mistakes 0 --solver-mistakes 0.3", "--levels", "3", "--rollouts", "6"])
if made.returncode == 3 and not os.environ.get("AGON_BOX_MUST_WORK"):
    skip("agon replay", made.stderr.strip())
    finish()
check(made.returncode == 0, "a corpus is made", made.stderr)
before = run([agon, "hash", corpus]).stdout

done = replay()
check(done.returncode == 0 and " rollouts, " in done.stdout and ": 0 differ" in done.stdout, "what was stored comes again",
      done.stdout + done.stderr)
check(replay("--jobs", "1").stdout == done.stdout == replay("--jobs", "4").stdout, "with any number of jobs")
check(run([agon, "hash", corpus]).stdout == before, "and nothing changes")
one = replay("--task", "cars/t1_l2", "--rollout", "3")
check(one.returncode == 0 and one.stdout.startswith("cars: 1 tasks, 1 rollouts, "), "one rollout alone", one.stdout)
for args in (("--task", "t9_l9"), ("--rollout", "999"), ("--task", "nothing/t1_l1")):
    done = replay(*args)
    check(done.returncode == 2 and "no such rollout" in done.stderr, "no such rollout: %s" % " ".join(args), done.stderr)
done = run([agon, "replay", tmp])
check(done.returncode == 2 and len(done.stderr.splitlines()) == 1, "a folder that is no corpus is one line", done.stderr)

# ---- differences
text = stored("transcript", "t1_l1", 2)
at = text.index('"role": "tool"')
at = text.index('"content": "', at) + len('"content": "')
spoiled = text[:at] + "#" + text[at + 1:]
change("UPDATE rollouts SET transcript = ? WHERE environment = 'cars' AND task = 't1_l1' AND idx = 2", spoiled)
done = replay()
check(done.returncode == 1 and "cars/t1_l1 rollout 2: call 1, " in done.stdout and "line 1, byte 0" in done.stdout
      and "    expected: #" in done.stdout and "cars: " in done.stdout and ": 1 differ" in done.stdout,
      "one byte of a stored result is named by rollout and call", done.stdout)
check(done.stdout.count("DIFFERS") == 1, "and nothing else is accused", done.stdout)
change("UPDATE rollouts SET transcript = ? WHERE environment = 'cars' AND task = 't1_l1' AND idx = 2", text)
was = stored("verdict", "t1_l2", 0)
change("UPDATE rollouts SET verdict = ? WHERE environment = 'cars' AND task = 't1_l2' AND idx = 0",
       "fail" if was == "pass" else "pass")
done = replay("--task", "cars/t1_l2")
check(done.returncode == 1 and "cars/t1_l2 rollout 0: verdict\n" in done.stdout, "another verdict is named", done.stdout)
change("UPDATE rollouts SET verdict = ? WHERE environment = 'cars' AND task = 't1_l2' AND idx = 0", was)

tools = os.path.join(corpus, "environments/cars/tools.lua")
with open(tools) as f:
    source = f.read()
with open(tools, "w") as f:
    f.write(source.replace("world:", "(function() error('gone', 0) end)() or world:"))
done = replay()
check(done.returncode == 1 and "error: gone" in done.stdout, "a tool that gives something else is named", done.stdout)
with open(tools, "w") as f:
    f.write("nonsense(")
done = replay()
check(done.returncode == 2 and "tools do not load" in done.stderr, "tools that do not load are an error", done.stderr)
shutil.rmtree(os.path.dirname(tools))
done = replay()
check(done.returncode == 0 and "cars: not kept, so that its " in done.stdout, "rollouts of an environment that is gone are counted",
      done.stdout + done.stderr)

shutil.rmtree(tmp, ignore_errors=True)
finish()
