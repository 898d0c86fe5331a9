#!/usr/bin/env python3
"""agon synth with the embedded checkpoint: real data, real boxes, no mock.

Usage: test_embedded.py AGON SOURCE_ROOT [--long]; speaks TAP.

Always: one category from the time zone table to kept tasks, verified.
--long: equal digests with 1 and 2 threads; 20 kills and an equal digest; shuffled
weights keep nothing; eight categories by crawling the snapshot of a real site.
"""
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests", "web"))
import website  # noqa: E402

CHECKPOINT = os.path.join(root, "model", "embedded")
ZONES = ["--category", "zones: time zones of the world", "--source", "/usr/share/zoneinfo/zone1970.tab",
         "--levels", "3", "--lines", "1"]
CATEGORIES = ["cars: cars on sale in the USA in 1993", "iris: measurements of iris flowers", "penguins: penguins of the Palmer islands",
              "mammals: sleep of mammals", "swiss: Swiss fertility data", "titanic: survival on the Titanic",
              "states: facts about US states", "quakes: earthquakes off Fiji"]
KILLS = 20
tmp = tempfile.mkdtemp(prefix="agon-embedded-")
n = failures = 0


def check(ok, claim, why=""):
    global n, failures
    n += 1
    failures += not ok
    print("%sok %d - %s" % ("" if ok else "not ", n, claim))
    if not ok:
        print("# " + str(why).replace("\n", "\n# "))
    sys.stdout.flush()
    return ok


def note(text):
    print("# " + text.replace("\n", "\n# "), flush=True)


def command(corpus, *more):
    return [agon, "synth", "general", "--corpus", os.path.join(tmp, corpus), *more]


def run(args, seconds=1800):
    return subprocess.run(args, capture_output=True, text=True, timeout=seconds)


def digest(corpus):
    return run([agon, "hash", os.path.join(tmp, corpus)]).stdout.strip()


def kept(done):
    m = re.search(r"(\d+) of \d+ environments and (\d+) of \d+ tasks kept", done.stdout)
    return (int(m[1]), int(m[2])) if m else (0, 0)


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
    done = run(command("zones", *ZONES))
    check(done.returncode == 0, "the embedded model works through a category", done.stdout + done.stderr)
    check(kept(done)[1] >= 1, "it finds the data, writes tools and tasks, solves them, and some are kept", done.stdout + done.stderr)
    note(done.stdout)
    verified = run([agon, "verify", os.path.join(tmp, "zones")])
    check(verified.returncode == 0, "agon verify passes what it made", verified.stdout + verified.stderr)
    again = run(command("zones", *ZONES))
    check(again.returncode == 0 and digest("zones") == digest("zones"), "the same command again has nothing to do", again.stderr)


def threads():
    reference = digest("zones")
    for j in "1", "2":
        done = run(command("j" + j, *ZONES, "--threads", j))
        check(done.returncode == 0 and digest("j" + j) == reference, "%s thread%s give the same digest" % (j, "s" * (j != "1")), done.stderr)
    r = random.Random(5)
    for _ in range(KILLS):
        p = subprocess.Popen(command("killed", *ZONES), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(r.uniform(0.2, 12))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            p.wait()
    done = run(command("killed", *ZONES))
    check(done.returncode == 0 and digest("killed") == reference, "killed %d times, the same digest" % KILLS, done.stderr)


def weights():
    shuffled(os.path.join(tmp, "shuffled"))
    done = run(command("noise", *ZONES, "--model", "local:" + os.path.join(tmp, "shuffled")))
    check(kept(done) == (0, 0), "shuffled weights keep no task", done.stdout + done.stderr)


def site():
    try:
        web = website.Site(root)
    except website.Missing as why:
        print("ok %d - eight categories from a real site # SKIP %s" % (n + 1, why))
        return 1
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
    return 0


extra = 0
try:
    short()
    if "--long" in sys.argv:
        threads()
        weights()
        extra = site()
finally:
    shutil.rmtree(tmp, ignore_errors=True)
print("1..%d" % (n + extra))
sys.exit(failures > 0)
