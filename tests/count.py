"""Counts the cases in the logs that `meson test` leaves (testlog*.json), prints all that a
failing test said, and ends in "N passed, N failed, N skipped". Exit status 1 on any failure.

A TAP program counts by its lines; if it ended badly without a "not ok" (a crash, a timeout, a
wrong plan), that is one failure more. Any other program is one case.
"""
import argparse
import json
import os
import platform
import re
import subprocess
import sys

CASE = re.compile(r"(not )?ok\b(?:\s+\d+)?(?:\s+-)?\s*(.*)")
DIRECTIVE = re.compile(r"#\s*(skip|todo)\b", re.IGNORECASE)


def cases(test):
    """(passed, failed, skipped, reasons to skip) of one test program."""
    passed = failed = skipped = 0
    reasons = []
    for line in test.get("stdout", "").splitlines():
        case = CASE.match(line)
        if not case:
            continue
        directive = DIRECTIVE.search(case[2])
        if directive and directive[1].lower() == "skip":
            skipped += 1
            reasons.append(case[2])
        elif case[1]:
            failed += 1
        else:
            passed += 1
    ended_well = test["result"] in ("OK", "SKIP")
    if passed + failed + skipped == 0:
        if test["result"] == "SKIP":
            skipped += 1
            reasons.append(test["name"])
        else:
            passed += ended_well
    if not ended_well and failed == 0:
        failed += 1
    return passed, failed, skipped, reasons


def machine():
    memory_kb = 0
    model = platform.machine()
    with open("/proc/meminfo") as f:
        memory_kb = int(f.readline().split()[1])
    with open("/proc/cpuinfo") as f:
        names = re.findall(r"model name\s*:\s*(.*)", f.read())
    cores = os.cpu_count()
    return f"{names[0] if names else model}, {cores} cores, {memory_kb / 2**20:.0f} GiB"


def commit():
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def said(test):
    text = test.get("stdout", "") + test.get("stderr", "")
    return text.replace(os.getcwd() + "/", "").rstrip("\n")


def write_report(path, tests, closing):
    with open(path, "w") as f:
        f.write("# The last `./run test --long`\n\n")
        f.write(f"Commit {commit()}, on {machine()}.\n")
        for test in tests:
            f.write(f"\n## {test['name']}: {test['result']}, {test['duration']:.0f} s\n\n")
            f.writelines("    " + line + "\n" if line else "\n" for line in said(test).split("\n"))
        f.write(f"\n{closing}\n")


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--report", help="write what the tests of the suite 'long' said here")
    args.add_argument("--broken", default="", help="builds that failed: one failure each")
    args.add_argument("logs", nargs="*")
    args = args.parse_args()

    broken = args.broken.split()
    total = [0, len(broken), 0]
    failing, skips, long_tests = [], [], []
    for path in args.logs:
        if not os.path.exists(path):  # meson itself fell over
            broken.append(path)
            total[1] += 1
            continue
        with open(path) as log:
            for test in map(json.loads, log):
                passed, failed, skipped, reasons = cases(test)
                total = [total[0] + passed, total[1] + failed, total[2] + skipped]
                skips += [f"{test['name']}: {reason}" for reason in reasons]
                if failed:
                    failing.append((path.split("/")[0], test))
                if path.endswith("-long.json"):
                    long_tests.append(test)

    for where, test in failing:
        print(f"\n== FAILED in {where}: {test['name']} ({test['result']})\n{said(test)}")
    if skips:
        print("\n== skipped\n" + "\n".join(skips))
    for build in broken:
        print(f"\n== FAILED: {build}, see above")
    closing = f"{total[0]} passed, {total[1]} failed, {total[2]} skipped"
    if args.report:
        write_report(args.report, long_tests, closing)
    print("\n" + closing)
    return total[1] > 0 or total[0] == 0


sys.exit(main())
