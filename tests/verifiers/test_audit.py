"""agon audit over tasks of the teacher, good and spoiled. usage: test_audit.py AGON GATECHECK ROOT [READING WRITING]. Speaks TAP.

The scaled-down run of the table in verifiers/README.md; with READING and WRITING it is the whole one.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

agon, gatecheck, root = sys.argv[1:4]
n_reading, n_writing = map(int, sys.argv[4:6] or (9, 4))  # a writing ladder of three levels and one of one
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(root, "tests", "tools"))
import teacher

tmp = tempfile.mkdtemp(prefix="agon-audit-")
corpus = os.path.join(tmp, "corpus")


def check(lines, folder):
    """What the gates say of these lines; what they accept lies in the folder."""
    text = "".join(json.dumps(l, ensure_ascii=False) + "\n" for l in lines)
    out = subprocess.run([gatecheck, folder], input=text, capture_output=True, text=True, check=True).stdout
    return [json.loads(l) for l in out.splitlines()]


def audit(*paths, golden="100"):
    run = subprocess.run([agon, "audit", "--json", "-j2", "--golden", golden, *paths], capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    report = json.loads(run.stdout)
    assert run.returncode == (report["summary"]["refused"] > 0), run.returncode
    return report


def good_tasks_are_not_accused():
    said = check(teacher.lines(n_reading, 4, n_writing), corpus)
    refused = [s["reason"] for s in said if s["gate"]]
    # Now and then an answer stands in its prompt by chance (gate 7), which no teacher can know.
    assert all(r.startswith("gate 7 (text): everything in the answer") for r in refused) and len(refused) * 20 <= len(said), refused
    report = audit(corpus)
    s = report["summary"]
    print("# %s" % json.dumps(s))
    assert s["tasks"] == len(said) - len(refused) and s["ok"] == s["tasks"], [c for c in report["tasks"] if c["verdict"] != "ok"]
    assert s["attacks"] > 5000 * s["tasks"] and s["false_accepts"] == 0 and s["unproven"] == 0
    assert s["dropped"] >= n_writing and s["dropped_accepted"] == 0
    assert s["foreign_writes"] > 50 * n_writing and s["foreign_accepted"] * 200 <= s["foreign_writes"]
    assert s["golden_runs"] == s["golden_passes"] == s["golden_same"] == 100 * s["tasks"]
    for card in report["tasks"]:
        assert card["checks"] and 8 <= card["worlds"] <= 32 and card["golden_runs"] == 100 and card["rejudged"] > 50, card


# ---- spoiled ones: a copy of an accepted environment, one file changed, and what the audit must say of it

def environments():
    """Stored environments with their ladders' lengths and whether they write."""
    for name in sorted(os.listdir(corpus)):
        path = os.path.join(corpus, name)
        yield path, len(os.listdir(os.path.join(path, "tasks"))), "remove_row" in open(os.path.join(path, "tools.lua")).read()


def spoiled(name, writing, file, change, kinds, task="t1_l1", golden="4", verdict="refused", source=None):
    source = source or min((n, p) for p, n, w in environments() if w == writing)[1]
    path = os.path.join(tmp, name)
    shutil.copytree(source, path)
    target = os.path.join(path, file)
    text = open(target, encoding="utf-8").read()
    new = change(text, path)
    assert new != text, "%s: nothing changed in\n%s" % (name, text)
    with open(target, "w", encoding="utf-8") as f:
        f.write(new)
    cards = audit(path, golden=golden)["tasks"]
    card = next(c for c in cards if c["task"] == task)
    found = {f["kind"] for f in card["findings"] if f["refused"] or f["kind"] in ("order", "leak")}
    assert card["verdict"] == verdict and set(kinds) <= found, card["findings"]
    every = {f["kind"] for c in cards if c["task"] is None for f in c["findings"]}
    assert "files" in every, cards[0]  # the hash of what was altered, too
    return card


def regex(pattern, by):
    return lambda text, path: re.sub(pattern, by, text, count=1)


def golden_of(path, task="t1_l1"):
    return json.loads(open(os.path.join(path, "tasks", task, "answers.jsonl"), encoding="utf-8").readline())


V, S, P = "tasks/t1_l1/verifier.lua", "tasks/t1_l1/solution.lua", "tasks/t1_l1/prompt.md"


def a_check_that_is_loosened_is_a_false_accept():
    spoiled("loose", True, V, regex(r"return answer\.row == want\.k", "return answer.row ~= nil"), ["false accept", "gate 4 (answer mutants)", "gate 5 (every check bites)"])


def a_check_that_rounds_is_a_false_accept():
    spoiled("rounds", True, V, regex(r"return answer\.at == want\.x", "return near(answer.at, want.x, 1)"), ["false accept", "gate 4 (answer mutants)"])


def a_claim_without_a_count_lets_a_dropped_write_pass():
    card = spoiled("dropped", True, V, regex(r"(return #changes:updated\(.*?\)) == 1", r"\1 <= 1"), ["gate 6 (writes)", "files"])
    assert card["dropped_accepted"] == card["dropped"] == 1, card


def a_claim_of_everything_lets_foreign_writes_pass():
    spoiled("foreign", True, V, regex(r"(  local want = [^\n]*\n)", r"\1  changes:all()\n"), ["gate 6 (writes)"])


def an_answer_that_is_written_down_is_found_in_the_code():
    def recite(text, path):
        return re.sub(r"return answer\.row == want\.k", "return answer.row == %s" % json.dumps(golden_of(path)["answer"]["row"]), text)
    spoiled("recites", True, V, recite, ["gate 8 (metamorphic)"])


def a_prompt_that_says_something_else_is_found():
    spoiled("prompt", True, P, regex(r"its (\w+) as `row`", r"the \1 as `row`"), ["gate 7 (text)"])


def a_condition_that_only_the_prompt_has_is_found():
    spoiled("condition", True, P, regex(r"\.", ", but only if its value is over 4711."), ["gate 7 (text)"])


def a_solution_that_answers_otherwise_is_found():
    spoiled("otherwise", True, S, regex(r"at = top\.x", "at = top.x + 1"), ["golden", "gate 2 (golden)", "files"])


def a_solution_that_nearly_takes_a_limit_is_found():
    spoiled("burns", True, S, regex(r"\n", "\n  local n = 0 while n < 1180000 do n = n + 1 end\n"), ["budget"])


def a_verdict_that_depends_on_the_order_of_rows_is_found():
    # Of the wrong answers one passes: the first row as it comes. The golden answer never shows it.
    def first(text, path):
        table, key = re.search(r"SELECT (\w+) AS k, \w+ AS x FROM (\w+)", text).group(2, 1)
        return text.replace("return answer.row == want.k", "return answer.row == want.k or answer.row == world:value('SELECT %s FROM %s')" % (key, table))
    spoiled("order", True, V, first, ["order", "false accept"])


def a_tool_without_an_order_is_noted():
    card = spoiled("unordered", True, "tools.lua", regex(r" ORDER BY \w+'\) end", "') end"), ["order"], verdict="noted")
    assert "gives its rows in another order" in card["findings"][0]["what"], card["findings"]


def an_answer_that_a_description_gives_away_is_found():
    def tell(text, path):
        answer = golden_of(path)["answer"]
        return text.replace("'All rows.'", json.dumps("All rows, such as %s with %s." % (answer["row"], answer["at"]), ensure_ascii=False))
    spoiled("leak", True, "tools.lua", tell, ["leak"])


def a_part_of_an_answer_that_a_description_gives_away_is_noted():
    def tell(text, path):
        return text.replace("'All rows.'", json.dumps("All rows, such as %s." % golden_of(path)["answer"]["row"], ensure_ascii=False))
    source = next(p for p, n, w in environments() if len(str(golden_of(p)["answer"].get("row", ""))) >= 6)
    card = spoiled("part", True, "tools.lua", tell, ["leak", "gate 7 (text)"], source=source)
    told = [f for f in card["findings"] if f["kind"] == "leak"]
    assert len(told) == 1 and not told[0]["refused"] and "a part of the answer (row)" in told[0]["what"], told


def an_altered_negative_is_found():
    # A negative that is the golden answer: it passes, whatever check it names.
    def first(text, path):
        lines = text.splitlines()
        one = json.loads(lines[1])
        one.update(json.loads(lines[0]))
        return "\n".join([lines[0], json.dumps(one, ensure_ascii=False)] + lines[2:]) + "\n"
    spoiled("negative", True, "tasks/t1_l1/answers.jsonl", first, ["files", "gate 5 (every check bites)"])


def the_same_task_in_another_environment_is_found():
    source = min((n, p) for p, n, w in environments() if not w)[1]
    path = os.path.join(tmp, "twice", "b")
    shutil.copytree(source, os.path.join(tmp, "twice", "a"))
    shutil.copytree(source, path)
    at = os.path.join(path, "env.json")
    text = open(at).read()
    with open(at, "w") as f:
        f.write(re.sub(r'"id": "\w+"', '"id": "other"', text, count=1))
    cards = audit(os.path.join(tmp, "twice"), golden="4")["tasks"]
    for c in cards:
        kinds = [f["kind"] for f in c["findings"]]
        assert kinds == (["duplicate"] if c["env"] == "other" else []), c


def a_person_sees_what_is_wrong_and_where():
    run = subprocess.run([agon, "audit", "--golden", "4", os.path.join(tmp, "loose")], capture_output=True, text=True)
    assert run.returncode == 1 and "t1_l1" in run.stdout and " REFUSED\n" in run.stdout, run.stdout
    assert "    ! false accept: " in run.stdout and "golden runs that pass" in run.stdout
    spoiled("escape", True, V, regex(r"text = '", r"text = '\\27[2J"), ["gate 7 (text)"])
    run = subprocess.run([agon, "audit", "--golden", "4", os.path.join(tmp, "escape")], capture_output=True, text=True)
    assert run.returncode == 1 and "[2J" in run.stdout and "\033" not in run.stdout, run.stdout  # a terminal is not cleared
    run = subprocess.run([agon, "audit", os.path.join(tmp, "nowhere")], capture_output=True, text=True)
    assert run.returncode == 2 and "nowhere" in run.stderr and run.stderr.count("\n") == 1, run.stderr


CASES = [
    good_tasks_are_not_accused, a_check_that_is_loosened_is_a_false_accept, a_check_that_rounds_is_a_false_accept,
    a_claim_without_a_count_lets_a_dropped_write_pass, a_claim_of_everything_lets_foreign_writes_pass,
    an_answer_that_is_written_down_is_found_in_the_code, a_prompt_that_says_something_else_is_found,
    a_condition_that_only_the_prompt_has_is_found, a_solution_that_answers_otherwise_is_found,
    a_solution_that_nearly_takes_a_limit_is_found, a_verdict_that_depends_on_the_order_of_rows_is_found,
    a_tool_without_an_order_is_noted,
    an_answer_that_a_description_gives_away_is_found,
    a_part_of_an_answer_that_a_description_gives_away_is_noted, an_altered_negative_is_found,
    the_same_task_in_another_environment_is_found, a_person_sees_what_is_wrong_and_where,
]
failed = 0
print("1..%d" % len(CASES))
for i, case in enumerate(CASES, 1):
    try:
        case()
        print("ok %d - %s" % (i, case.__name__), flush=True)
    except Exception as e:  # a case that cannot go on has failed, and the next is run
        failed += 1
        print("not ok %d - %s" % (i, case.__name__))
        print("# " + repr(e)[:3000].replace("\n", "\n# "), flush=True)
shutil.rmtree(tmp, ignore_errors=True)
sys.exit(failed > 0)
