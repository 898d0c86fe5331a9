"""The training side against the program: usage: test_train.py AGON SOURCE_ROOT. Speaks TAP; needs no package."""
import json
import os
import random
import re
import subprocess
import sys

agon, root = sys.argv[1:]
sys.path.insert(0, os.path.join(root, "model", "train"))
sys.dont_write_bytecode = True
import novelty
import retrieve
import stages
import wordings
import world

EMBEDDED = os.path.join(root, "model", "embedded")


def run(*args, text):
    return subprocess.run([agon, "model", *args], input=text, capture_output=True, text=True, check=True).stdout


def documents(n):
    r, prompts, out = random.Random(20), stages.Prompts(), []
    while len(out) < n:
        out += stages.world_docs(r, prompts, world.make_world(r), world.View) + [retrieve.retrieve_doc(r, prompts, None)]
    return [d for d in out if d]


def documents_are_what_agon_encodes():
    for d in documents(30):
        # An episode may end in a sentence without thought or call, which a history could not hold.
        ends = not d.messages[-1].get("reasoning_content") and not d.messages[-1].get("tool_calls")
        case = {"messages": d.messages[:-1] if ends else d.messages, "thinking_mode": "thinking"}
        text = run("encode", text=json.dumps(case, ensure_ascii=False))
        assert d.text().startswith(text) if ends else text == d.text(), d.kind


def ids_are_those_that_training_saw():
    for case in json.load(open(os.path.join(root, "tests", "data", "embedded", "ids.json"))):
        assert json.loads(run("tokenize", EMBEDDED, text=case["text"])) == case["ids"], case["text"][:80]


def the_embedded_model_says_what_transformers_says():
    want = json.load(open(os.path.join(EMBEDDED, "expected.json")))
    got = json.loads(run("logits", EMBEDDED, text=json.dumps({"input_ids": want["input_ids"]})))
    assert got["argmax"] == want["argmax"]
    assert max(abs(a - b) for a, b in zip(got["logits_last"], want["logits_last"])) < 1e-3
    # Scores that differ in their last bit may fall on either side of the indexer's cut: transformers says something
    # else itself about such a position when the ids behind it are left out. There may be few.
    assert sum(abs(a - b) >= 1e-2 for a, b in zip(got["logits_norm"], want["logits_norm"])) <= 2


def shapes_of_verifiers_are_those_that_agon_reads():
    for case in json.load(open(os.path.join(root, "tests", "data", "embedded", "skeletons.json"))):
        assert novelty.skeleton(case["verifier"]) == case["skeleton"], case["verifier"][:80]


def the_driver_holds_no_wording_of_a_task():
    text = ""
    for folder, _, files in os.walk(os.path.join(root, "synth")):
        text += "".join(open(os.path.join(folder, f), encoding="utf-8", errors="replace").read() for f in files)
    for kind, sentences in list(wordings.SENTENCES.items()) + list(wordings.MORE.items()):
        for s in sentences:
            for part in re.split(r"\{\w+\}|\[[^]]*\]", s):
                words = re.findall(r"\w+", part)
                assert len(words) < 5 or part.strip() not in text, (kind, part)
    assert not re.search(r"SELECT (COUNT|ROUND|SUM|MAX)\(", "".join(
        open(os.path.join(root, "synth", "prompts", f), encoding="utf-8").read() for f in os.listdir(os.path.join(root, "synth", "prompts"))))


TESTS = [documents_are_what_agon_encodes, ids_are_those_that_training_saw, the_embedded_model_says_what_transformers_says,
         shapes_of_verifiers_are_those_that_agon_reads, the_driver_holds_no_wording_of_a_task]
print("1..%d" % len(TESTS))
for i, test in enumerate(TESTS, 1):
    try:
        test()
        print("ok %d - %s" % (i, test.__name__))
    except Exception as e:
        print("not ok %d - %s\n# %s: %s" % (i, test.__name__, type(e).__name__, str(e)[:400].replace("\n", " ")))
