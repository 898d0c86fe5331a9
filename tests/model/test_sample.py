"""agon model sample and score as a trainer drives them: one process, JSON lines, weights exchanged under it."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap

agon, embedded = sys.argv[1:3]


class Process:
    """The long-lived process; ask() sends lines and gives the replies by id."""

    def __init__(self, folder, *options):
        self.p = subprocess.Popen([agon, "model", "sample", folder, "-j", "2", *tap.device, *options], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)

    def ask(self, *requests):
        for request in requests:
            self.p.stdin.write(json.dumps(request) + "\n")
        self.p.stdin.flush()
        replies = [json.loads(self.p.stdout.readline()) for _ in requests]
        return {reply.get("id"): reply for reply in replies}

    def close(self):
        self.p.stdin.close()
        rest = self.p.stdout.read()
        return self.p.wait(60), rest


def near(a, b):
    return len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b))


def main():
    work = tempfile.mkdtemp(prefix="agon-test-")
    try:
        run(work)
    finally:
        shutil.rmtree(work)


def run(work):
    prompt = {"prompt": "The quick brown fox", "max_tokens": 24, "seed": 7, "temperature": 1.0, "top_p": 0.9}
    s = Process(embedded, "--routing", "--indexer")
    r = s.ask({**prompt, "id": 1, "n": 4, "record": ["mask", "routing", "indexer"]}, {**prompt, "id": 2}, {**prompt, "id": 3, "n": 2})
    texts = [c["text"] for c in r[1]["completions"]]
    tap.check(len(texts) == 4 and len(set(texts)) > 1, "n choices differ")
    tap.check(r[2]["completions"][0]["text"] == texts[0] and [c["text"] for c in r[3]["completions"]] == texts[:2],
           "a choice depends on seed and index alone, recorded or not")
    first = r[1]["completions"][0]
    n = len(first["token_ids"])
    tap.check(n == len(first["logprobs"]) == len(first["sampling_mask"]["offsets"]) - 1 and
           first["routed_experts"]["shape"][0] == len(first["prompt_token_ids"]) + n - 1 and
           first["indexer_topk"]["dtype"] == "int32", "a record has the shapes that trainers read")
    sampling = {k: prompt[k] for k in ("temperature", "top_p")}
    records = r[1]["completions"]
    free = s.ask(*[{"id": i, "score": {"prompt_token_ids": c["prompt_token_ids"], "token_ids": c["token_ids"],
                                       "sampling": sampling}} for i, c in enumerate(records)])
    forced = s.ask(*[{"id": i, "score": {**c, "sampling": sampling}} for i, c in enumerate(records)])
    for name, got in (("free", free), ("forced", forced)):
        tap.check(all(near(got[i][k], c[k]) for i, c in enumerate(records) for k in ("logprobs", "logprobs_raw")),
               "scores of completions are what was recorded: " + name)
    r = s.ask({"id": 5, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "seed": 1, "record": True,
               "temperature": 0})
    tap.check(r[5]["completions"][0]["sampling_mask"]["ids"] == r[5]["completions"][0]["token_ids"], "a greedy mask is the id itself")
    for request, words in (({"prompt": "x", "top_p": 2}, "top_p"), ({"prompt": []}, "empty"), ({}, "neither messages"),
                           ({"load": "/nonexistent"}, "/nonexistent"), ({"prompt": [10 ** 6]}, "token id"),
                           ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
                           ({"score": {"prompt_token_ids": [0], "token_ids": []}}, "token_ids")):
        reply = s.ask({"id": "bad", **request})["bad"]
        tap.check(words in reply.get("error", ""), "refused in one line: " + words)
    # Other weights of the same shape: the same folder with one tensor's bytes changed.
    other = os.path.join(work, "other")
    shutil.copytree(embedded, other)
    name = "model.layers.1.input_layernorm.weight"
    with open(os.path.join(other, "model.safetensors.index.json")) as f:
        weights = os.path.join(other, json.load(f)["weight_map"][name])
    with open(weights, "r+b") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        begin, end = header[name]["data_offsets"]
        f.seek(8 + size + begin)
        data = f.read(end - begin)
        f.seek(8 + size + begin)
        half = len(data) // 8 * 4
        f.write(data[half:] + data[:half])
    before = s.ask({**prompt, "id": 1})[1]
    loaded = s.ask({"id": 9, "load": other})[9]
    after = s.ask({**prompt, "id": 1, "record": True})[1]
    tap.check(before["weight_version"] == 0 and loaded["weight_version"] == 1 == after["weight_version"] and
           after["completions"][0]["weight_version"] == 1, "each reply names the version of its weights")
    fresh = Process(other)
    tap.check(fresh.ask({**prompt, "id": 1})[1]["completions"][0]["text"] == after["completions"][0]["text"],
           "replaced weights speak like freshly opened ones")
    fresh.close()
    scored = s.ask({"id": 1, "score": {"prompt_token_ids": first["prompt_token_ids"], "token_ids": first["token_ids"]}})[1]
    tap.check(not near(scored["logprobs_raw"], first["logprobs_raw"]), "the new weights score otherwise")
    r = s.ask({"id": 1, "load": embedded}, {**prompt, "id": 2})
    tap.check(r[2]["completions"][0]["text"] == before["completions"][0]["text"] and r[2]["weight_version"] == 2,
           "and back: what was cached of others is forgotten")
    # A load waits for what was asked before it.
    r = s.ask({**prompt, "id": 1, "n": 8}, {"id": 2, "load": other}, {**prompt, "id": 3})
    tap.check([r[i]["weight_version"] for i in (1, 2, 3)] == [2, 3, 3], "what was asked before a load has the old weights")
    tap.check(s.close() == (0, ""), "ends with its input")
    lines = "".join(json.dumps({"id": i, **c, "sampling": sampling}) + "\n" for i, c in enumerate(records)) + "no json\n"
    p = subprocess.run([agon, "model", "score", embedded, *tap.device], input=lines, capture_output=True, text=True)
    replies = [json.loads(line) for line in p.stdout.splitlines()]
    tap.check(p.returncode == 0 and len(replies) == 5 and "error" in replies[4] and
           all(near(replies[i]["logprobs"], c["logprobs"]) for i, c in enumerate(records)), "agon model score reads records as they are")


main()
tap.finish()
