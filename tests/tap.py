"""TAP for tests of the whole program: claims counted as they are checked."""
import os
import re
import subprocess
import sys

n = failures = 0
# Where agon is to run its model: what AGON_TEST_DEVICE says, as options.
device = ["--device", os.environ["AGON_TEST_DEVICE"]] if os.environ.get("AGON_TEST_DEVICE") else []


def check(ok, claim, why=""):
    """One claim; `why` is shown where it does not hold. Returns ok."""
    global n, failures
    n += 1
    failures += not ok
    print("%sok %d - %s" % ("" if ok else "not ", n, claim))
    if not ok:
        note(str(why))
    sys.stdout.flush()
    return ok


def skip(claim, why):
    global n
    n += 1
    print("ok %d - %s # SKIP %s" % (n, claim, why), flush=True)


def note(text):
    print("# " + text.replace("\n", "\n# "), flush=True)


def finish():
    """The plan, and the exit status."""
    print("1..%d" % n)
    sys.exit(failures > 0)


def run(args, seconds=300, **options):
    return subprocess.run(args, capture_output=True, text=True, timeout=seconds, **options)


def kept(done):
    """(environments, tasks) that agon synth says it kept."""
    m = re.search(r"(\d+) of \d+ environments and (\d+) of \d+ tasks kept", done.stdout)
    return (int(m[1]), int(m[2])) if m else (0, 0)
