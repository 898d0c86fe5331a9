"""Defences broken one at a time, to see which test notices: mutate.py [--jobs N] [--only TEXT] SCRATCH

Each row of mutations.py is one edit of one file (a check that goes, a comparison turned, a cap off by one, a row of a
table that is missing) and the tests that ought to fail then. The tree is copied to SCRATCH (kept, so that a second run is
quick), built once, and for each row edited, tested and put back. One line a row: which test failed, or SURVIVED; the
status is 1 where one did. A row whose text is no longer in its file is STALE and fails, too.

What survives is a missing test, a check that another one makes needless (then one of the two goes), or the same program.
Rows that are the last two on purpose stand in KNOWN with the reason, and are not run. Some 10 s a row.
"""
import argparse
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mutations import KNOWN, MUTATIONS

SECONDS_MAX, NO_END = 400, -1000
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def copy_tree(scratch):
    """Tracked files, new ones among them, where they differ: what did not change is not built again."""
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE).stdout
    for name in names.decode().split("\0")[:-1]:
        to = os.path.join(scratch, name)
        if not os.path.exists(to) or not filecmp.cmp(os.path.join(ROOT, name), to, shallow=False):
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(os.path.join(ROOT, name), to)
    if not os.path.exists(scratch + "/build/build.ninja"):
        subprocess.run(["meson", "setup", "build", "-Dcuda=disabled"], cwd=scratch, check=True, stdout=subprocess.DEVNULL)


def run(scratch, argv):
    """(status, output); status NO_END where it takes longer than any test should: a loop that no limit ends any more."""
    p = subprocess.Popen(argv, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                         env=dict(os.environ, AGON_BOX_MUST_WORK="1"))
    try:
        said, _ = p.communicate(timeout=SECONDS_MAX)
        return p.returncode, said
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGTERM)  # meson ends what it started, which has sessions of its own
        p.wait(60)
        return NO_END, ""


def needs(scratch):
    """What each test runs, by its name, as targets of ninja: to build all for each row would be most of the time."""
    build = os.path.join(scratch, "build")

    def asked(what):
        return json.loads(subprocess.run(["meson", "introspect", what, build], check=True, stdout=subprocess.PIPE).stdout)

    files = {t["id"]: t["filename"] for t in asked("--targets")}
    paths = {t["name"]: t["cmd"] + [f for d in t["depends"] for f in files.get(d, [])] for t in asked("--tests")}
    inside = {name: {os.path.relpath(p, build) for p in of if p.startswith(build + "/")} for name, of in paths.items()}
    return {name: sorted(p for p in of if not p.startswith("..")) for name, of in inside.items()}


def failing(scratch, tests, targets, jobs):
    """The first of the tests that fails, None where all pass, "(build)" where it does not compile."""
    for test in tests:
        if run(scratch, ["ninja", "-C", "build", "-j", str(jobs)] + targets[test])[0]:
            return "(build)"
        status, _ = run(scratch, ["meson", "test", "-C", "build", "--no-rebuild", "--num-processes", str(jobs), test])
        if status:
            return test + (" (no end)" if status == NO_END else "")
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--only", default="", help="rows whose file, texts or tests have this")
    p.add_argument("scratch")
    a = p.parse_args()
    scratch = os.path.abspath(a.scratch)
    os.makedirs(scratch, exist_ok=True)
    copy_tree(scratch)
    rows = [(f, tests, old, new) for f, tests, edits in MUTATIONS for old, new in edits
            if a.only in f + old + new + " ".join(tests)]
    bad, targets = 0, needs(scratch)
    for f, tests, old, new in rows:
        path, start = os.path.join(scratch, f), time.time()
        whole = open(path, encoding="utf-8").read()
        if whole.count(old) != 1:
            said = "STALE (%d times in the file)" % whole.count(old)
        else:
            open(path, "w", encoding="utf-8").write(whole.replace(old, new))
            try:
                test = failing(scratch, tests, targets, a.jobs)
            finally:
                open(path, "w", encoding="utf-8").write(whole)
            said = "SURVIVED" if not test else "DOES NOT BUILD" if test == "(build)" else "caught by " + test
        bad += not said.startswith("caught")
        print("%-34s %s: %s => %s (%d s)" % (said, f, " ".join(old.split()), " ".join(new.split()), time.time() - start), flush=True)
    print("%d of %d caught; %d known to survive are not run" % (len(rows) - bad, len(rows), len(KNOWN)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
