#!/usr/bin/env python3
"""agon synth with the embedded checkpoint: real data, real boxes, no mock.

Usage: test_embedded.py AGON SOURCE_ROOT [--long]; speaks TAP.

Always: one category from the time zone table to kept tasks, verified.
--long: shuffled weights keep nothing; eight categories by crawling the snapshot of a real
site. (That threads and kills change no digest: tests/pipelines/test_local_run.py.)
"""
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time

agon, root = sys.argv[1], sys.argv[2]
sys.path[:0] = [os.path.join(root, "tests"), os.path.join(root, "tests", "web")]
import website  # noqa: E402
from tap import check, finish, kept, note, run, skip  # noqa: E402

CHECKPOINT = os.path.join(root, "model", "embedded")
ZONES = ["--category", "zones: time zones of the world", "--source", "/usr/share/zoneinfo/zone1970.tab",
         "--levels", "3", "--lines", "1", "--seed", "2"]  # under seed 1 the author asks for a count of 300 values, which no rollout gets right
CATEGORIES = ["cars: cars on sale in the USA in 1993", "iris: measurements of iris flowers", "penguins: penguins of the Palmer islands",
              "mammals: sleep of mammals", "swiss: Swiss fertility data", "titanic: survival on the Titanic",
              "states: facts about US states", "quakes: earthquakes off Fiji"]
tmp = tempfile.mkdtemp(prefix="agon-embedded-")


def command(corpus, *more):
    return [agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), *more]


def shuffled(to):
    """The checkpoint with the values of every tensor permuted: same bytes, nothing learned."""
    shutil.copytree(CHECKPOINT, to)
    r = random.Random(1)
    for name in sorted(os.listdir(to)):
        if not name.endswith(".safetensors"):
            continue
        path = os.path.join(to, name)
        data = bytearray(open(path, "rb").read())
        size, = struct.unpack("<Q", data[:8])
        for tensor, about in json.loads(data[8:8 + size]).items():
            if tensor == "__metadata__":
                continue
            width = {"F32": 4, "BF16": 2, "F8_E4M3": 1}[about["dtype"]]
            a, b = (8 + size + x for x in about["data_offsets"])
            values = [bytes(data[i:i + width]) for i in range(a, b, width)]
            r.shuffle(values)
            data[a:b] = b"".join(values)
        with open(path, "wb") as f:
            f.write(data)


def short():
    done = run(command("zones", *ZONES), 600)
    check(done.returncode == 0, "the embedded model works through a category", done.stdout + done.stderr)
    check(kept(done)[1] >= 1, "it finds the data, writes tools and tasks, solves them, and some are kept", done.stdout + done.stderr)
    note(done.stdout)
    verified = run([agon, "verify", os.path.join(tmp, "zones")])
    check(verified.returncode == 0, "agon verify passes what it made", verified.stdout + verified.stderr)
    before = run([agon, "hash", os.path.join(tmp, "zones")]).stdout
    again = run(command("zones", *ZONES))
    check(again.returncode == 0 and run([agon, "hash", os.path.join(tmp, "zones")]).stdout == before,
          "the same command again has nothing to do", again.stderr)


def weights():
    shuffled(os.path.join(tmp, "shuffled"))
    done = run(command("noise", *ZONES, "--model", "local:" + os.path.join(tmp, "shuffled")), 3600)
    check(kept(done) == (0, 0), "shuffled weights keep no task", done.stdout + done.stderr)


def site():
    try:
        web = website.Site(root)
    except website.Missing as why:
        return skip("eight categories from a real site", why)
    begun = time.time()
    args = [x for c in CATEGORIES for x in ("--category", c)]
    try:
        done = run(command("site", *args, "--source", web.url + "/", "--allow-host", web.host, "--crawl-pages", "3000",
                           "--levels", "4", "--lines", "1"), 3600)
    finally:
        web.stop()
    note(done.stdout + "%.0f s" % (time.time() - begun))
    check(done.returncode == 0 and kept(done)[0] >= 4 and kept(done)[1] >= 8,
          "of eight categories by crawling a real site at least half are kept", done.stdout + done.stderr)
    verified = run([agon, "verify", os.path.join(tmp, "site")])
    check(verified.returncode == 0, "agon verify passes them", verified.stdout + verified.stderr)


try:
    short()
    if "--long" in sys.argv:
        weights()
        site()
finally:
    shutil.rmtree(tmp, ignore_errors=True)
finish()
