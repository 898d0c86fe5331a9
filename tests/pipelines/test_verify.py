#!/usr/bin/env python3
"""agon verify for CI: what drifted is named, in lines, TAP and JUnit, with and without a baseline.

Usage: test_verify.py AGON SOURCE_ROOT; speaks TAP.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, run, skip  # noqa: E402

tmp = tempfile.mkdtemp(prefix="agon-verify-")
catalog = os.path.join(tmp, "catalog")
baseline = os.path.join(tmp, "baseline.jsonl")
junit = os.path.join(tmp, "junit.xml")


def fresh():
    shutil.rmtree(catalog, ignore_errors=True)
    shutil.copytree(os.path.join(root, "envs/catalog"), catalog)


def verify(*args, path=catalog):
    return run([agon, "verify", path, *args])


def edit(name, old, new):
    path = os.path.join(catalog, name)
    with open(path) as f:
        text = f.read()
    assert old in text, (name, old)
    with open(path, "w") as f:
        f.write(text.replace(old, new, 1))


def one_error(done, part):
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return len(errors) == 1 and part in errors[0]


def xml_is_well_formed():
    if not shutil.which("xmllint"):
        return False
    return subprocess.run(["xmllint", "--noout", junit], capture_output=True).returncode == 0


# ---- all is well
fresh()
done = verify("--junit", junit)
if done.returncode == 3:
    if os.environ.get("AGON_BOX_MUST_WORK"):
        check(False, "boxes work", done.stderr)
    else:
        skip("agon verify", done.stderr.strip())
    finish()
check(done.returncode == 0 and "3 environments, 10 tasks, 64 negatives: 0 failures" in done.stdout,
      "the catalogue verifies", done.stdout + done.stderr)
check(re.search(r"the largest use of a limit: \d+\.\d% \(\w+/t1_l\d\)", done.stdout), "and says how near to a limit it came",
      done.stdout)
check(xml_is_well_formed(), "JUnit's file is well formed (xmllint)")
suites = xml.parse(junit).getroot()
cases = suites.findall("testsuite/testcase")
check(suites.tag == "testsuites" and len(suites) == 3 and int(suites.get("tests")) == len(cases) > 90
      and suites.get("failures") == "0", "it has a suite for each environment and a case for each thing looked at", len(cases))
check(any(c.get("classname") == "trip_planning.t1_l2" and c.get("name") == "golden" for c in cases),
      "cases are named by environment and task")

# ---- TAP 14
done = verify("--tap")
lines = done.stdout.splitlines()
check(done.returncode == 0 and lines[0] == "TAP version 14" and "1..3" in lines
      and [l for l in lines if l.startswith("ok ")] == ["ok 1 - exam_timetable", "ok 2 - library_loans", "ok 3 - trip_planning"],
      "TAP has a plan and a point for each environment", done.stdout[:500])
plans = [int(l.strip()[3:]) for l in lines if re.match(r"    1\.\.\d+$", l)]
check(sum(plans) == len(cases) == len([l for l in lines if re.match(r"    ok \d+ - ", l)]),
      "and its subtests are the same cases", plans)

# ---- jobs
one, two, many = (verify("--jobs", n).stdout for n in ("1", "2", "8"))
check(one == two == many, "the output is the same with any number of jobs")

# ---- what drifted is named
edit("library_loans/tasks/t1_l1/verifier.lua", "not row or answer.lent == row.copy_id", "false")
done = verify("--junit", junit)
check(done.returncode == 1 and "library_loans/t1_l1: golden: the golden answer does not pass: check 'names_copy' fails: \""
      in done.stdout, "a golden answer that fails is named with its check and the words of the prompt", done.stdout)
check("library_loans: files: tasks/t1_l1/verifier.lua" in done.stdout, "and the file that was altered", done.stdout)
failed = [(c.get("classname"), c.get("name")) for c in xml.parse(junit).getroot().findall("testsuite/testcase")
          if c.find("failure") is not None]
check(xml_is_well_formed() and ("library_loans.t1_l1", "golden") in failed and ("library_loans", "files") in failed,
      "JUnit marks the same cases", failed)
done = verify("--tap")
check(done.returncode == 1 and re.search(r"^    not ok \d+ - t1_l1 golden\n      ---\n      message: \"", done.stdout, re.M)
      and "not ok 2 - library_loans" in done.stdout, "TAP says so, with a YAML block", done.stdout[-800:])

fresh()
edit("trip_planning/tasks/t1_l1/solution.lua", "return function(tools)",
     "return function(tools)\n  if true then return {hostel = 'x < y & \"z\"'} end")
done = verify("--junit", junit)
check(done.returncode == 1 and "trip_planning/t1_l1: solution: " in done.stdout, "a solution that gives something else is named",
      done.stdout)
check(xml_is_well_formed(), "text of models breaks no XML")

fresh()
edit("exam_timetable/tasks/t1_l1/answers.jsonl", '"writes": []', '"writes": [{"tool": "no_such", "arguments": {}}]')
done = verify()
check(done.returncode == 1 and "exam_timetable/t1_l1: golden: " in done.stdout and "no tool 'no_such'" in done.stdout,
      "a golden write that does not succeed is named", done.stdout)
fresh()
answers = os.path.join(catalog, "exam_timetable/tasks/t1_l1/answers.jsonl")
with open(answers) as f:
    golden = f.readline()
with open(answers, "a") as f:
    f.write(json.dumps(dict(json.loads(golden), fails="seats")) + "\n")
done = verify()
check(done.returncode == 1 and "passes, it should fail check 'seats'" in done.stdout, "a negative that passes is named", done.stdout)
for other, said in (("own_room", "negative 1 does not fail check 'own_room'"),
                    ("no_such", "negative 1 names check 'no_such', which the verifier does not have")):
    fresh()
    edit("exam_timetable/tasks/t1_l1/answers.jsonl", '"fails": "exams"', '"fails": "%s"' % other)
    done = verify()
    check(done.returncode == 1 and said in done.stdout, "so is one that fails another check than it says", done.stdout)

# ---- the baseline
fresh()
done = verify("--baseline", baseline)
check(done.returncode == 2 and one_error(done, "--write-baseline makes it"), "a baseline that is not there is an error", done.stderr)
done = verify("--write-baseline")
check(done.returncode == 2 and one_error(done, "needs --baseline"), "--write-baseline needs a file", done.stderr)
done = verify("--baseline", baseline, "--write-baseline")
check(done.returncode == 0 and len(open(baseline).readlines()) == 14, "a baseline is a line for each environment and task",
      done.stdout + done.stderr)
first = open(baseline).read()
verify("--baseline", baseline, "--write-baseline", "--jobs", "3")
check(open(baseline).read() == first, "what is measured is the same every time")
done = verify("--baseline", baseline)
check(done.returncode == 0 and "0 failures" in done.stdout, "what was recorded is found again", done.stdout)
done = run([agon, "verify", os.path.join(catalog, "trip_planning"), "--baseline", baseline])
check(done.returncode == 0, "one environment alone is held against its part", done.stdout)


def drift(claim, parts, *edits):
    """Edits that hashes do not betray: env.json is sealed again in effect by looking at other lines."""
    fresh()
    for e in edits:
        edit(*e)
    said = verify("--baseline", baseline).stdout
    check(all(p in said for p in parts), claim, said)


drift("a prompt that changed is named", ["trip_planning/t1_l1: files: prompt.md is not as in the baseline"],
      ("trip_planning/tasks/t1_l1/prompt.md", " ", "  "))
drift("a check that is gone is named", ["library_loans/t1_l1: checks: the verifier has no check 'names_copy' any more",
                                        "the verifier has a new check 'names_a_copy'"],
      ("library_loans/tasks/t1_l1/verifier.lua", "\"names_copy\"", "\"names_a_copy\""))
drift("a world that holds other rows is named, a file of other bytes is not",
      ["library_loans: world: what the world holds is not as in the baseline"],
      ("library_loans/world.sql", "INSERT INTO", "-- a comment\nINSERT INTO"),
      ("library_loans/world.sql", "'", "'Q"))
drift("a verifier that does more work is named with numbers", ["budget: the golden verdict takes ", " in the baseline (slack 10%)"],
      ("library_loans/tasks/t1_l1/verifier.lua", "run = function(world, answer, changes)",
       "run = function(world, answer, changes) for i = 1, 100000 do end") if "run = function(world, answer, changes)"
      in open(os.path.join(root, "envs/catalog/library_loans/tasks/t1_l1/verifier.lua")).read() else
      ("library_loans/tasks/t1_l1/verifier.lua", "run = function(world, answer)",
       "run = function(world, answer) for i = 1, 100000 do end"))
fresh()
edit("library_loans/world.sql", "INSERT INTO", "-- a comment\nINSERT INTO")
said = verify("--baseline", baseline).stdout
check("library_loans: files: world.sql" in said and "library_loans: world:" not in said,
      "bytes that change nothing in the world are no drift of it", said)

fresh()
shutil.rmtree(os.path.join(catalog, "exam_timetable"))
shutil.rmtree(os.path.join(catalog, "trip_planning/tasks/t1_l4"))
done = verify("--baseline", baseline)
check(done.returncode == 1 and "exam_timetable: there: the environment is in the baseline, but not here" in done.stdout
      and "trip_planning/t1_l4: there: the task is in the baseline, but not in trip_planning" in done.stdout,
      "environments and tasks that are gone are named", done.stdout)
done = verify("--baseline", baseline, "--write-baseline")
check(done.returncode == 1 and "not written" in done.stderr and open(baseline).read() == first,
      "no baseline is written of what fails", done.stderr)
with open(baseline, "w") as f:
    f.write(first.replace('"checks"', '"check', 1))
done = verify("--baseline", baseline)
check(done.returncode == 2 and one_error(done, "line 3"), "a broken baseline is named by its line", done.stderr)
with open(baseline, "w") as f:
    f.write(first[21:])
done = verify("--baseline", baseline)
check(done.returncode == 2 and one_error(done, "agon_baseline"), "a file that is no baseline is refused", done.stderr)

# ---- limits
fresh()
done = verify("--budget", "1")
check(done.returncode == 0, "no golden run of the catalogue takes a hundredth of a limit", done.stdout)
edit("library_loans/tasks/t1_l1/solution.lua", "return function(tools)",
     "return function(tools) for i = 1, 2000000 do end")
done = verify("--budget", "1")
check("library_loans/t1_l1: budget: the solution comes near to a limit" in done.stdout and "expected: at most 1.0%" in done.stdout,
      "a run that comes near to a limit is named", done.stdout)

# ---- what can't be judged
for args, part in (((), "something is missing"), ((os.path.join(tmp, "none"),), "none"),
                   ((catalog, "--jobs", "x"), "--jobs"), ((os.path.join(catalog, "trip_planning/tasks"),), "no environment here")):
    done = run([agon, "verify", *args])
    check(done.returncode == 2 and one_error(done, part), "an error is one line that names it: %s" % part, done.stderr)
fresh()
os.remove(os.path.join(catalog, "library_loans/tools.lua"))
done = verify()
check(done.returncode == 1 and "library_loans" in done.stdout and "tools.lua" in done.stdout and "trip_planning: 4 tasks" in done.stdout,
      "a broken environment does not keep the others from being judged", done.stdout + done.stderr)

shutil.rmtree(tmp, ignore_errors=True)
finish()
