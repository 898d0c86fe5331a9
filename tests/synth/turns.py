#!/usr/bin/env python3
"""A model that says what it was told to: turns.py FILE, behind exec+lines:.

FILE is a JSON array; the k-th turn of a conversation (k assistant messages so far) is its k-th
item, a message, or an array of them, of which a turn's t-th try takes the t-th. A string is a
completion as it is. After the last item a turn is "done", without a call.

FILE may be an object: "turns" is that array, "after" the one once "notes" stands in the task; "summary"
what is said when the conversation is to be summed up ("notes of SIZE bytes" by default, SIZE the
request's); "tries" are arrays of turns, one for each trajectory of a rollout.
"""
import json
import sys

told = json.load(open(sys.argv[1]))
if isinstance(told, list):
    told = {"turns": told}


def turn_of(request, size):
    messages, (*_, number, place) = request["messages"], request["key"].split("/")
    said = sum(m["role"] == "assistant" for m in messages)
    if said and messages[-1]["role"] == "user":
        turn = told.get("summary", {"content": "notes of SIZE bytes"})
    else:
        turns = told["tries"][int(number)] if "tries" in told else told["turns"]
        if "notes" in messages[1]["content"]:
            turns = told.get("after", turns)
        turn = turns[said] if said < len(turns) else {"content": "done"}
    if isinstance(turn, list):
        turn = turn[min(int(place.rsplit(".", 1)[1]), len(turn) - 1)]
    if isinstance(turn, str):
        return {"completion": turn}
    turn = dict({"role": "assistant", "content": "", "reasoning_content": "hm"}, **turn)
    return dict(turn, content=turn["content"].replace("SIZE", str(size)))


for line in sys.stdin:
    print(json.dumps(turn_of(json.loads(line), len(line)), ensure_ascii=False), flush=True)
