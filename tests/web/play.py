#!/usr/bin/env python3
"""An author whose turns a person wrote (FILE), and a solver for its tasks, behind exec+lines:.

  play.py author FILE SITE     turns by key "category/stage/sample/turn.try"; SITE fills {{site}}
  play.py solver RATE          works through the tools; RATE of its turns hold a mistake

The turns hold mistakes on purpose: a column misspelt, SQL against a table that is not
there, a hard-coded solution, a text that is not in the prompt, a level that is not harder.
"""
import json
import random
import re
import sys


def message(thinking, calls, content=""):
    return {"content": content, "reasoning_content": thinking,
            "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in calls]}


def author(turns, site, request):
    turn = turns.get(request["key"].rsplit(".", 1)[0] + ".0")
    if turn is None:
        return {"error": "no turn was written for %s" % request["key"]}
    text = json.dumps(turn).replace("{{site}}", site)
    turn = json.loads(text)
    return message(turn["thinking"], [(c["name"], c["arguments"]) for c in turn["calls"]], turn["content"])


# ---- the solver: what is asked, the calls that find it, the answer from their results

ASKED = [
    ("best", r"make of the (\w+) car with the highest horsepower"),
    ("weight", r"the weight of that car"),
    ("count", r"how many cars of origin ([\w-]+) have (\w+) cylinders"),
    ("average", r"average price of all cars of type (\w+)"),
    ("thirsty", r"make of the (\w+) car with the lowest mpg in the city"),
    ("gap", r"the price of (.+?) minus the price of (.+?),"),
]


def asked(prompt):
    """[(key, kind, words)] in the prompt's order."""
    found = []
    for key, text in re.findall(r"(\w+) = (.+?)(?:;|\. Answer)", prompt):
        for kind, pattern in ASKED:
            m = re.search(pattern, text)
            if m:
                found.append((key, kind, m.groups()))
    return found


def results_of(messages):
    """{(tool, arguments as text): value} of all calls so far."""
    known, calls = {}, []
    for m in messages:
        if m["role"] == "assistant":
            calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in m.get("tool_calls", [])]
        elif m["role"] == "tool" and calls:
            name, arguments = calls.pop(0)
            if not m["content"].startswith("error"):
                known[name, json.dumps(arguments, sort_keys=True)] = json.loads(m["content"])
    return known


class Need(Exception):
    """Calls whose results are not known yet."""


def solve(parts, known):
    needed = []

    def call(tool, **arguments):
        key = tool, json.dumps(arguments, sort_keys=True)
        if key not in known:
            if (tool, arguments) not in needed:
                needed.append((tool, arguments))
            return None
        return known[key]

    answer, best = {}, None
    for key, kind, words in parts:
        if kind == "best":
            top = call("strongest_of_type", type=words[0], n=1)
            best = answer[key] = top and top[0]["make"]
        elif kind == "weight":
            car = best and call("get_car", make=best)
            answer[key] = car and car["weight"]
        elif kind == "count":
            answer[key] = call("count_cars", cylinders=words[1], origin=words[0])
        elif kind == "average":
            answer[key] = call("average_price", type=words[0])
        elif kind == "thirsty":
            makes = call("list_cars_by_type", type=words[0]) or []
            cars = [call("get_car", make=m) for m in makes]
            answer[key] = min((c["mpg_city"], c["make"]) for c in cars)[1] if makes and all(cars) else None
        elif kind == "gap":
            a, b = call("get_car", make=words[0]), call("get_car", make=words[1])
            answer[key] = round(a["price"] - b["price"], 1) if a and b else None
    if needed:
        raise Need(needed)
    return answer


def solver(rate, request):
    r = random.Random(request["sampling"]["seed"])
    prompt = next(m["content"] for m in request["messages"] if m["role"] == "user")
    parts = asked(prompt)
    if r.random() < rate and len(parts) > 1:
        parts = parts[:-1]  # forgets what was asked last: the answer lacks a key
    try:
        answer = solve(parts, results_of(request["messages"]))
    except Need as need:
        calls = need.args[0]
        if r.random() < rate:
            calls = calls[:-1] or calls
        return message("Look up %d things." % len(calls), calls)
    if r.random() < rate:
        key = r.choice(list(answer))
        answer[key] = answer[key] + 1 if not isinstance(answer[key], str) else answer[key][::-1]
    return message("That is all.", [("submit_result", {"answer_text": json.dumps(answer)})])


def main():
    role = sys.argv[1]
    turns = json.load(open(sys.argv[2], encoding="utf-8")) if role == "author" else None
    for line in sys.stdin:
        request = json.loads(line)
        reply = author(turns, sys.argv[3], request) if turns else solver(float(sys.argv[2]), request)
        print(json.dumps(reply, ensure_ascii=False), flush=True)


main()
