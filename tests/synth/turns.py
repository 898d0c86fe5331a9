#!/usr/bin/env python3
"""A model that says what it was told to: turns.py FILE, behind exec+lines:.

FILE is a JSON array; the k-th turn of a conversation (k assistant messages so far) is its k-th
item, a message, or an array of them, of which a turn's t-th try takes the t-th. A string is a
completion as it is. After the last item a turn is "done", without a call.
"""
import json
import sys

turns = json.load(open(sys.argv[1]))
for line in sys.stdin:
    request = json.loads(line)
    said = sum(m["role"] == "assistant" for m in request["messages"])
    turn = turns[said] if said < len(turns) else {"content": "done"}
    if isinstance(turn, list):
        attempt = int(request["key"].rsplit(".", 1)[1])
        turn = turn[min(attempt, len(turn) - 1)]
    if isinstance(turn, str):
        turn = {"completion": turn}
    else:
        turn = dict({"role": "assistant", "content": "", "reasoning_content": "hm"}, **turn)
    print(json.dumps(turn, ensure_ascii=False), flush=True)
