#!/usr/bin/env python3
"""The same seed gives the same corpus with the local model: with 1 and 2 threads, and killed 20 times.

Usage: test_local_run.py AGON CHECKPOINT_DIR SOURCE; speaks TAP. Takes minutes: suite long.
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

agon, checkpoint, source = sys.argv[1:4]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from tap import check, finish  # noqa: E402
from tap import run as run_program  # noqa: E402

KILLS = 20


def run(args):
    return run_program(args, 1200)


if not os.path.exists(os.path.join(checkpoint, "config.json")) or not os.path.exists(source):
    print("1..0 # SKIP no %s" % (source if not os.path.exists(source) else checkpoint))
    sys.exit(0)
tmp = tempfile.mkdtemp(prefix="agon-local-")


def command(corpus, *more):
    return [agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), "--category", "zones: time zones of the world",
            "--source", source, "--model", "local:" + checkpoint, "--levels", "2", "--lines", "1", "--rollouts", "8",
            "--rollouts-max", "8"] + list(more)


def digest(corpus):
    return run([agon, "hash", os.path.join(tmp, corpus)]).stdout.strip()


start = time.time()
one = run(command("one", "--threads", "1"))
span = time.time() - start
check(one.returncode == 0 and len(digest("one")) == 64, "the local model works through a category", one.stderr)
two = run(command("two", "--threads", "2", "--parallel", "3"))
check(two.returncode == 0 and digest("two") == digest("one"), "2 threads and another batch give the digest of 1", two.stderr)
rng = random.Random(1)
kills = ends = 0
same = True
while kills < KILLS:
    child = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1 + rng.random() * span / 4)
    if child.poll() is None:
        kills += 1
    else:
        same = same and digest("killed") == digest("one")
        shutil.rmtree(os.path.join(tmp, "killed"))
    child.kill()
    child.wait()
done = run(command("killed"))
check(done.returncode == 0 and same and digest("killed") == digest("one"),
      "killed %d times it ends with the same digest" % KILLS, done.stderr)
shutil.rmtree(tmp, ignore_errors=True)
finish()
