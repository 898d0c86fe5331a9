#!/usr/bin/env python3
"""A program in the place of a model, for tests: author and solver behind exec+lines:.

It knows no table and no tool. It reads the texts that the driver sends (the world's
columns, tool signatures, the task below, results and refusals), writes Lua from them,
and mends what is refused. A turn is a function of the request alone, so a run can be
stopped, repeated and recorded. Mistakes are drawn from the request's seed: broken
Lua, turns that do not parse, wrong answers, silence.

  author_program.py [--mistakes RATE] [--solver-mistakes RATE] [--sleep SECONDS] [--flood]

With --flood the solver makes its calls again and again until its window is full, notes what they
gave when it is asked to, and answers from its notes.
"""
import argparse
import json
import random
import re
import sys
import time

DSML = "｜DSML｜"


# ---- what the driver's texts say

def world_of(text):
    """Tables of the slot `world`: [{name, key, columns: [{name, type, n, values, low, high}]}]."""
    tables = []
    for line in text.split("\n"):
        m = re.match(r"table (\w+): (\d+) rows?, key (.+)$", line)
        if m:
            tables.append({"name": m[1], "rows": int(m[2]), "key": m[3].split(", "), "columns": []})
            continue
        m = re.match(r"- (\w+) (TEXT|INTEGER|REAL): (\d+) values?(.*)$", line)
        if m and tables:
            c = {"name": m[1], "type": m[2], "n": int(m[3]), "values": [], "missing": "missing" in m[4]}
            if m[4].startswith(": "):
                c["values"] = re.findall(r"(?:^|, )([^,]+?) \(\d+\)", m[4][2:])
            r = re.match(r", (-?[\d.]+) to (-?[\d.]+)", m[4])
            if r:
                c["low"], c["high"] = r[1], r[2]
            tables[-1]["columns"].append(c)
    return tables


def section(text, title, end):
    m = re.search(re.escape(title) + r"\n(.*?)" + end, text, re.S)
    return m[1] if m else ""


def literal(column, value):
    return value if column["type"] != "TEXT" else '"%s"' % value


def groups_of(table):
    return [c for c in table["columns"]
            if c["values"] and 1 < c["n"] <= 6 and c["name"] not in table["key"] and not c["missing"]
            and all(re.fullmatch(r"[\w ]+", v) for v in c["values"])]


def measures_of(table):
    return [c for c in table["columns"] if "low" in c and not c["missing"]]


# ---- turns

def turn(thinking, calls=(), content=""):
    return {"role": "assistant", "content": content, "reasoning_content": thinking,
            "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in calls]}


def results_since_user(messages):
    """[(call name, arguments, result)] of the conversation."""
    out, calls = [], []
    for m in messages:
        if m["role"] == "assistant":
            calls = list(m.get("tool_calls") or [])
        elif m["role"] == "tool" and calls:
            f = calls.pop(0)["function"]
            out.append((f["name"], json.loads(f["arguments"]), m["content"]))
    return out


def retrieve(text, done, rng):
    words = re.sub(r"[^\w ]", " ", re.search(r"Category: (.*)", text)[1])
    if not done:
        return turn("First I look for data.", [("search", {"query": words})])
    hits = [h for _, _, r in done for h in re.findall(r"^\d+\. (\S+)$", r, re.M)]
    fetched = [a["address"] for n, a, _ in done if n == "fetch"]
    tables = [a for n, a, r in done if n == "import_table" and not r.startswith("error")]
    if tables and not any(n == "bash" for n, _, _ in done):
        return turn("I look at what the box has.", [("bash", {"command": "test -f /work/world.db && echo there"})])
    if tables:
        return turn("The world is ready.", content="The world is ready.")
    data = [u for _, _, r in done for u in re.findall(r"((?:doc:|https?:)\S+\.csv)\b", r)]
    for address in data + hits:
        if address not in fetched:
            return turn("I read %s." % address, [("fetch", {"address": address})])
    for n, a, r in done:
        if n == "fetch" and a["address"].endswith(".csv") and "csv, " in r:
            name = re.sub(r"\W", "_", a["address"].split("/")[-1].split(":")[-1][:-4].lower())
            if any(b["source"] == a["address"] for m, b, _ in done if m == "import_table"):
                continue
            return turn("This is a table.", [("import_table", {"source": a["address"], "into": name, "format": "csv"})])
    return turn("Nothing here.", content="There is no data.")


def tool_sources(table):
    t, key = table["name"], table["key"][0]
    kinds = {"TEXT": "string", "INTEGER": "integer", "REAL": "number"}
    columns = [c["name"] for c in table["columns"]]
    key_type = kinds[next(c["type"] for c in table["columns"] if c["name"] == key)]
    object_type = '{"type":"object"}'
    out = [("list_%s" % t,
            'tool{ name = "list_%s", description = "All of %s, by %s.", params = [[{"type":"object","properties":{}}]], '
            'returns = [[{"type":"array","items":{"type":"%s"}}]],\nrun = function(world, a)\n  local out = {}\n'
            '  for i, r in ipairs(world:rows("SELECT %s FROM %s ORDER BY %s")) do out[i] = r.%s end\n  return out\nend }'
            % (t, t, key, key_type, key, t, key, key)),
           ("find_%s" % t,
            'tool{ name = "find_%s", description = "Rows of %s with this %s.", params = [[{"type":"object","properties":'
            '{"%s":{"type":"%s"}},"required":["%s"]}]], returns = [[{"type":"array","items":%s}]],\n'
            'run = function(world, a) return world:rows("SELECT %s FROM %s WHERE %s = ? ORDER BY %s", a.%s) end }'
            % (t, t, key, key, key_type, key, object_type, ", ".join(columns), t, key, key, key))]
    for c in groups_of(table)[:5]:
        n, kind = c["name"], kinds[c["type"]]
        out.append(("%s_by_%s" % (t, n),
                    'tool{ name = "%s_by_%s", description = "Rows of %s with this %s.", params = [[{"type":"object",'
                    '"properties":{"%s":{"type":"%s"}},"required":["%s"]}]], returns = [[{"type":"array","items":%s}]],\n'
                    'run = function(world, a) return world:rows("SELECT %s FROM %s WHERE %s = ? ORDER BY %s", a.%s) end }'
                    % (t, n, t, n, n, kind, n, object_type, ", ".join(columns), t, n, key, n)))
    return out


def range_tool(table, c):
    t, n = table["name"], c["name"]
    return ("count_%s_by_%s" % (t, n),
            'tool{ name = "count_%s_by_%s", description = "How many of %s have a %s within these bounds.", params = '
            '[[{"type":"object","properties":{"low":{"type":"number"},"high":{"type":"number"}},"required":["low","high"]}]], '
            'returns = [[{"type":"integer"}]],\nrun = function(world, a) return world:value("SELECT count(*) FROM %s WHERE %s '
            '>= ? AND %s <= ?", a.low, a.high) end }' % (t, n, t, n, t, n, n))


def define(text, done, rng, mistakes):
    table = world_of(text)[0]
    defined = {re.match(r"ok: (\w+)", r)[1] for n, _, r in done if n == "define_tool" and r.startswith("ok: ")}
    for name, source in tool_sources(table):
        if name in defined:
            continue
        if rng.random() < mistakes:
            source = source.replace("function(world, a)", "function(world, a) (", 1)
        return turn("The next tool is %s." % name, [("define_tool", {"source": source})])
    return turn("Enough tools.", content="The tools suffice.")


class Leaf:
    """One thing that a task asks: the words, the Lua of solution and check."""

    def __init__(self, key, kind, text, tool, solution, check, schema):
        self.key, self.kind, self.text, self.tool = key, kind, text, tool
        self.solution, self.check, self.schema = solution, check, schema


def leaf_best(table, g, value, m, most, key):
    t, k, v = table["name"], table["key"][0], literal(g, value)
    text = "the %s with the %s %s among %s with %s %s" % (k, "highest" if most else "lowest", m["name"], t, g["name"], value)
    solution = ('  local best\n  for _, r in ipairs(tools.%s_by_%s{%s = %s}) do\n    if not best or r.%s %s best.%s then best = r end\n'
                '  end\n  answer.%s = best and best.%s' % (t, g["name"], g["name"], v, m["name"], ">" if most else "<", m["name"], key, k))
    check = ('return answer.%s == world:value("SELECT %s FROM %s WHERE %s = ? ORDER BY %s %s, %s LIMIT 1", %s)'
             % (key, k, t, g["name"], m["name"], "DESC" if most else "ASC", k, v))
    kinds = {"TEXT": "string", "INTEGER": "integer", "REAL": "number"}
    kind = kinds[next(c["type"] for c in table["columns"] if c["name"] == k)]
    return Leaf(key, "best", text, None, solution, check, {"type": kind})


def leaf_count(table, g, value, key):
    t, v = table["name"], literal(g, value)
    text = "the number of %s with %s %s" % (t, g["name"], value)
    return Leaf(key, "count", text, None, '  answer.%s = #tools.%s_by_%s{%s = %s}' % (key, t, g["name"], g["name"], v),
                'return answer.%s == world:value("SELECT count(*) FROM %s WHERE %s = ?", %s)' % (key, t, g["name"], v),
                {"type": "integer"})


def leaf_range(table, m, low, high, key):
    t, tool = table["name"], range_tool(table, m)
    text = "the number of %s with %s from %s to %s" % (t, m["name"], low, high)
    return Leaf(key, "range", text, tool, '  answer.%s = tools.%s{low = %s, high = %s}' % (key, tool[0], low, high),
                'return answer.%s == world:value("SELECT count(*) FROM %s WHERE %s >= ? AND %s <= ?", %s, %s)'
                % (key, t, m["name"], m["name"], low, high), {"type": "integer"})


NAMES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"]


def make_leaf(table, n, rng):
    g = rng.choice(groups_of(table))
    value = rng.choice(g["values"])
    m = rng.choice([c for c in measures_of(table) if c["name"] != g["name"]])
    if n % 4 == 1:
        return leaf_count(table, g, value, NAMES[n])
    if n % 4 == 3:
        low, high = float(m["low"]), float(m["high"])
        a, b = sorted(round(low + (high - low) * rng.random(), 1) for _ in range(2))
        return leaf_range(table, m, a, b, NAMES[n])
    return leaf_best(table, g, value, m, rng.random() < 0.5, NAMES[n])


def parse_task(table, prompt):
    """The leaves of a prompt of ours."""
    out = []
    for key, text in re.findall(r"(\w+): (the .*?)(?:;|\. Of)", prompt):
        m = re.match(r"the (\w+) with the (highest|lowest) (\w+) among (\w+) with (\w+) (.+)$", text)
        columns = {c["name"]: c for c in table["columns"]}
        if m:
            out.append(leaf_best(table, columns[m[5]], m[6], columns[m[3]], m[2] == "highest", key))
            continue
        m = re.match(r"the number of (\w+) with (\w+) from (\S+) to (\S+)$", text)
        if m:
            out.append(leaf_range(table, columns[m[2]], m[3], m[4], key))
            continue
        m = re.match(r"the number of (\w+) with (\w+) (.+)$", text)
        if m:
            out.append(leaf_count(table, columns[m[2]], m[3], key))
    return out


def task_of(table, leaves):
    prompt = ("Look at the table %s and give, under these keys: " % table["name"]
              + "; ".join("%s: %s" % (l.key, l.text) for l in leaves)
              + ". Of several that are equal, the one that comes first by %s counts." % table["key"][0])
    solution = "return function(tools)\n  local answer = {}\n" + "".join(
        "  do\n%s\n  end\n" % re.sub(r"^", "  ", l.solution, flags=re.M) for l in leaves) + "  return answer\nend"
    verifier = "\n".join('check{ name = "%s", text = "%s", run = function(world, answer)\n  %s\nend }'
                         % (l.key, l.text, l.check) for l in leaves)
    schema = {"type": "object", "properties": {l.key: l.schema for l in leaves}, "required": [l.key for l in leaves]}
    return {"prompt": prompt, "answer_schema": schema, "solution": solution, "verifier": verifier}


def level(text, done, rng, mistakes):
    table = world_of(text)[0]
    below = re.search(r"^prompt: (.*?)\nanswer_schema: ", text, re.S | re.M)
    leaves = parse_task(table, below[1]) if below else []
    leaves.append(make_leaf(table, len(leaves), rng))
    tools = section(text, "Tools:", "\n\n") + "".join(r for n, _, r in done if n == "define_tool")
    for l in leaves:
        if l.tool and l.tool[0] + "(" not in tools:
            return turn("A tool for bounds is missing.", [("define_tool", {"source": l.tool[1]})])
    task = task_of(table, leaves)
    if rng.random() < mistakes:
        task["solution"] = task["solution"].replace("return answer", "return {}")
    return turn("One more thing is asked: %s." % leaves[-1].text, [("propose_task", task)])


# ---- the solver

def wrong(value, rng):
    if isinstance(value, int):
        return value + rng.choice([-1, 1])
    return value[::-1] if isinstance(value, str) and len(value) > 1 else "nothing"


def solve(text, tools, done, rng, coin, mistakes, flood):
    prompt = text.split("\n\nAnswer schema: ")[0]
    table = re.search(r"the table (\w+)", prompt)[1]
    asks = re.findall(r"(\w+): (the .*?)(?:;|\. Of)", prompt)
    schemas = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in tools}
    calls, plan = [], []
    for key, ask in asks:
        m = re.match(r"the (\w+) with the (highest|lowest) (\w+) among \w+ with (\w+) (.+)$", ask)
        r = re.match(r"the number of \w+ with (\w+) from (\S+) to (\S+)$", ask)
        c = re.match(r"the number of \w+ with (\w+) (.+)$", ask)
        if m:
            name, arg, value = "%s_by_%s" % (table, m[4]), m[4], m[5]
        elif r:
            name, arg, value = "count_%s_by_%s" % (table, r[1]), None, (float(r[2]), float(r[3]))
        else:
            name, arg, value = "%s_by_%s" % (table, c[1]), c[1], c[2]
        if arg is None:
            a = {"low": value[0], "high": value[1]}
        else:
            kind = schemas[name][arg]["type"]
            a = {arg: value if kind == "string" else int(value) if kind == "integer" else float(value)}
        calls.append((name, a))
        plan.append((key, m, r))
    noted = text.partition("The notes of it:\n")[2]
    if noted:
        done = json.loads(noted)
    elif not done or flood:
        return turn("I need %d calls." % len(calls), calls * max(1, flood))
    if coin < mistakes / 4 and not any(n == "submit_result" for n, _, _ in done):
        return turn("Done.", [("submit_result", {"answer_text": "{not json"})])
    answer = {}
    for (key, m, r), (_, _, result) in zip(plan, done):
        rows = json.loads(result)
        if m:
            sign = -1 if m[2] == "highest" else 1
            answer[key] = min(rows, key=lambda x: (sign * x[m[3]], x[m[1]].encode()))[m[1]]
        else:
            answer[key] = rows if r else len(rows)
    if coin < mistakes:
        key = rng.choice(sorted(answer))
        answer[key] = wrong(answer[key], rng)
    return turn("I have all parts.", [("submit_result", {"answer_text": json.dumps(answer, ensure_ascii=False)})])


def stream(request, *names):
    """A stream that depends on the conversation (not the turn): key without its last part."""
    key = request["key"].rsplit("/", 1)[0]
    return random.Random("/".join([key] + [str(n) for n in names]))


def answer(request, options):
    messages = request["messages"]
    text = next(m["content"] for m in messages if m["role"] == "user")
    tools = request.get("tools") or []
    done = results_since_user(messages)
    rng = random.Random(request["sampling"]["seed"])
    refused = sum(r.startswith("error: ") for _, _, r in done)
    if any(t["function"]["name"] == "submit_result" for t in tools):
        if rng.random() < options.solver_mistakes / 8:
            return {"completion": "I think.</think>\n\n<%sfunction_calls>\n<oops" % DSML}
        if done and messages[-1]["role"] == "user": # the window is full
            n = len(next(m for m in messages if m["role"] == "assistant")["tool_calls"])
            return turn("I note what I know.", content=json.dumps(done[:n]))
        coin = stream(request, "coin").random()
        calls = {json.dumps(d[:2]): 100 + len(d[2]) for d in done}
        flood = options.flood and (1 + 30000 // sum(calls.values()) if calls else 1)
        return solve(text, tools, done, rng, coin, options.solver_mistakes, flood)
    if rng.random() < options.mistakes / 4:
        return {"completion": "Hm.</think>\n\n<%sfunction_calls>\n<broken" % DSML}
    stage = re.search(r"^Stage: (\w+)", text, re.M)[1]
    if stage == "retrieve":
        return retrieve(text, done, rng)
    if stage == "tools":
        return define(text, done, rng, options.mistakes)
    return level(text, done, stream(request, "leaf", refused), options.mistakes if not refused else 0)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mistakes", type=float, default=0.2)
    p.add_argument("--solver-mistakes", type=float, default=0.3)
    p.add_argument("--sleep", type=float, default=0)
    p.add_argument("--flood", action="store_true")
    options = p.parse_args()
    for line in sys.stdin:
        time.sleep(options.sleep)
        print(json.dumps(answer(json.loads(line), options), ensure_ascii=False), flush=True)


main()
