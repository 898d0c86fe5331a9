"""Are an author's tools right? Each tool that it wrote, once, against the table by hand.

usage: toolcheck.py GATECHECK CORPUS...        (GATECHECK: build/tests/tools/gatecheck)

For every environment whose first sample of the stage `tools` stands in a corpus: the calls of define_tool
of that sample's first turn, each tool once. A refused definition is wrong. Of one
that was taken, the description says what it promises; reference() computes that in
Python from the rows alone (no SQL), for arguments drawn from the table, and the
program runs the tool in its box (tests/tools/gatecheck.c). A description that says nothing known, or a
result that differs, is wrong. Prints the share of tools that load and are right.
"""
import glob
import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys

CALLS = 6  # of each tool
ID = r"([a-z_][a-z0-9_]*)"
COLS = r"([a-z0-9_, ]+?)"


class Table:
    def __init__(self, db, name):
        cur = db.execute('SELECT * FROM "%s"' % name)
        self.columns = [d[0] for d in cur.description]
        self.rows = [dict(zip(self.columns, row)) for row in cur.fetchall()]
        self.key = next(r[1] for r in db.execute('PRAGMA table_info("%s")' % name) if r[5] == 1)
        self.real = {r[1] for r in db.execute('PRAGMA table_info("%s")' % name) if r[2] == "REAL"}


def low(s):
    """LIKE folds ASCII letters only."""
    return "".join(c.lower() if "A" <= c <= "Z" else c for c in s)


def rank(v):
    """The order of SQLite: NULL, numbers, text by bytes."""
    return (0,) if v is None else (2, v.encode()) if isinstance(v, str) else (1, v)


def ordered(t, rows, column, up):
    """By column, the highest or the lowest first, ties by the key; what is missing is never lowest."""
    rows = sorted((r for r in rows if up or r[column] is not None), key=lambda r: rank(r[t.key]))
    return sorted(rows, key=lambda r: rank(r[column]), reverse=up)  # stable, reversed too


def pick(rows, cols):
    return [{c: r[c] for c in cols} for r in rows]


def names(text):
    return [c.strip() for c in text.split(",") if c.strip()]


def aggregate(t, how, c, rows):
    vs = [r[c] for r in rows if r[c] is not None]
    if not vs:
        return None
    if how == "total":
        return round(math.fsum(vs), 2) if c in t.real else sum(vs)
    return {"mean": lambda: round(math.fsum(vs) / len(vs), 2), "lowest": lambda: min(vs), "highest": lambda: max(vs)}[how]()


def group_rows(t, g, a):
    return [r for r in t.rows if r[g] == a[g] and r[g] is not None] if g else t.rows


def starting(t, c, a):
    return [r for r in t.rows if r[c] is not None and low(str(r[c])).startswith(low(a["start"]))]


def by(t, rows, *cols):
    return sorted(rows, key=lambda r: [rank(r[c]) for c in cols])


def groups(t, c):
    n = {}
    for r in t.rows:
        if r[c] is not None:
            n[r[c]] = n.get(r[c], 0) + 1
    return [{c: v, "n": n[v]} for v in sorted(n, key=lambda v: (-n[v], rank(v)))]


def one(rows):
    return rows[0] if rows else None


# What a description promises: pattern -> (tables, groups of the match, arguments) -> value.
PROMISES = [
    (r"The row of ID with this ID: COLS\.", lambda T, a, t, k, cs: one(pick(group_rows(T[t], k, a), names(cs)))),
    (r"COLS of the ID with this ID\.", lambda T, a, cs, t, k: one(pick(group_rows(T[t], k, a), names(cs)))),
    (r"Rows of ID with this ID: COLS, by ID\.", lambda T, a, t, c, cs, k: pick(by(T[t], group_rows(T[t], c, a), k), names(cs))),
    (r"COLS of all ID whose ID is this, by ID\.", lambda T, a, cs, t, c, k: pick(by(T[t], group_rows(T[t], c, a), k), names(cs))),
    (r"(?:Number of|How many rows of) ID (?:with|have) this ID\.", lambda T, a, t, c: len(group_rows(T[t], c, a))),
    (r"Number of ID with this ID and this ID\.", lambda T, a, t, c, d: len([r for r in group_rows(T[t], c, a) if r[d] == a[d]]) if c != d else "ambiguous"),
    (r"The n rows of ID with the (highest|lowest) ID: COLS\.", lambda T, a, t, way, c, cs: pick(ordered(T[t], T[t].rows, c, way == "highest")[:a["n"]], names(cs))),
    (r"First n of ID by ID, (highest|lowest) first: COLS\.", lambda T, a, t, c, way, cs: pick(ordered(T[t], T[t].rows, c, way == "highest")[:a["n"]], names(cs))),
    (r"The n rows of ID with this ID that have the (highest|lowest) ID: COLS\.",
     lambda T, a, t, g, way, c, cs: pick(ordered(T[t], group_rows(T[t], g, a), c, way == "highest")[:a["n"]], names(cs))),
    (r"The row of ID at this place by ID, (highest|lowest) first: COLS\.",
     lambda T, a, t, c, way, cs: one(pick(ordered(T[t], T[t].rows, c, way == "highest")[a["place"] - 1:], names(cs)))),
    (r"(Sum|Mean|Highest|Lowest) of ID over (?:all )?ID(?: with this ID)?(?: rounded to 2 decimals)?\.",
     lambda T, a, how, c, t, g: aggregate(T[t], {"Sum": "total"}.get(how, how.lower()), c, group_rows(T[t], g, a))),
    (r"total, mean, lowest and highest ID over (?:all )?ID(?: with this ID)?\.",
     lambda T, a, c, t, g: {h: aggregate(T[t], h, c, group_rows(T[t], g, a)) for h in ("total", "mean", "lowest", "highest")}),
    (r"Each ID in ID and its number n of rows, most first\.", lambda T, a, c, t: groups(T[t], c)),
    (r"Number of ID with ID from low to high\.", lambda T, a, t, c: len([r for r in T[t].rows if r[c] is not None and rank(a["low"]) <= rank(r[c]) <= rank(a["high"])])),
    (r"Place of the ID with this ID by ID, highest is 1\.",
     lambda T, a, t, k, c: (lambda mine: 1 + (sum(1 for r in T[t].rows if r[c] is not None and rank(r[c]) > rank(mine)) if mine is not None else 0))(
         next((r[c] for r in T[t].rows if r[k] == a[k]), None))),
    (r"Number of ID whose ID begins with this text\.", lambda T, a, t, c: len(starting(T[t], c, a))),
    (r"First n of ID whose ID begins with this text: COLS, by ID\.", lambda T, a, t, c, cs, _: pick(by(T[t], starting(T[t], c, a), c, T[t].key)[:a["n"]], names(cs))),
    (r"The n rows of ID with the longest ID and its length: COLS, length\.",
     lambda T, a, t, c, cs: [dict(r, length=len(r0[c]) if r0[c] is not None else None) for r0, r in ((r0, pick([r0], names(cs))[0]) for r0 in sorted(
         by(T[t], T[t].rows, T[t].key), key=lambda r: -1 if r[c] is None else len(str(r[c])), reverse=True)[:a["n"]])]),
    (r"The row of ID at this place in the order of ID: COLS\.",
     lambda T, a, t, c, cs: one(pick(by(T[t], [r for r in T[t].rows if r[c] is not None], c, T[t].key)[a["place"] - 1:], names(cs)))),
    (r"Number of ID without ID\.", lambda T, a, t, c: len([r for r in T[t].rows if r[c] is None])),
    (r"Number of different ID over ID with this ID\.", lambda T, a, c, t, g: len({r[c] for r in group_rows(T[t], g, a) if r[c] is not None})),
]
PROMISES = [(re.compile(p.replace("COLS", COLS).replace("ID", ID)), f) for p, f in PROMISES]


def reference(tables, description, arguments):
    """(known, value) of what the description promises."""
    for pattern, f in PROMISES:
        m = pattern.fullmatch(description)
        if m:
            try:
                return True, f(tables, arguments, *m.groups())
            except (KeyError, IndexError, TypeError):
                return False, None
    return False, None


def same(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, (int, float)) and isinstance(b, (int, float)) and abs(a - b) <= 0.0051 + 1e-9 * abs(b)
    return a == b


def draw(r, tables, params):
    """Arguments of the kinds that the signature names: mostly values that stand in a row."""
    a = {}
    row_of = {n: r.choice(t.rows) for n, t in tables.items() if t.rows}
    for name, schema in params.get("properties", {}).items():
        holders = [n for n, t in tables.items() if name in t.columns]
        if name in ("n", "place") and schema.get("type") == "integer":
            a[name] = r.randint(1, 5)
        elif name == "start":
            texts = [v for row in row_of.values() for v in row.values() if isinstance(v, str) and v and v[0].isalnum()]
            a[name] = r.choice(texts)[:1] if texts else "a"
        elif name in ("low", "high"):
            a[name] = None
        elif holders:
            a[name] = row_of[holders[0]][name]
        if a.get(name) is None and name not in ("low", "high"):
            a[name] = {"integer": 1, "number": 1.5}.get(schema.get("type"), "x")
    return a


def tools_of(transcript):
    """[(name, source or None, description, params)] of the first turn's define_tool calls, each name once."""
    flat = []

    def walk(x):
        for y in x if isinstance(x, list) else ():
            walk(y)
        if isinstance(x, dict):
            flat.append(x)
    walk(transcript)
    out, seen = [], set()
    at = next((i for i, m in enumerate(flat) if m["role"] == "assistant" and m.get("tool_calls")), None)
    if at is None:
        return out
    for k, c in enumerate(flat[at]["tool_calls"]):
        if c["function"]["name"] != "define_tool":
            continue
        source = json.loads(c["function"]["arguments"]).get("source", "")
        name = (re.search(r'name = "([^"]*)"', source) or [None, "?"])[1]
        if name in seen:
            continue
        seen.add(name)
        answer = flat[at + 1 + k]["content"]
        taken = answer.startswith("ok: ")
        description = (re.search(r'description = "([^"]*)"', source) or [None, ""])[1]
        params = (re.search(r"params = \[\[(.*?)\]\]", source) or [None, "{}"])[1]
        out.append((name, source if taken else None, description, params, answer))
    return out


def calls_for(r, tables, tools):
    out = []
    for name, source, description, params, _ in tools:
        for _ in range(CALLS if source else 0):
            a = draw(r, tables, json.loads(params))
            if "low" in a:  # a range over the column that the description names
                m = re.search(r"Number of ID with ID from".replace("ID", ID), description)
                values = [row[m.group(2)] for row in tables[m.group(1)].rows] if m and m.group(1) in tables and m.group(2) in tables[m.group(1)].columns else [1, 2]
                a["low"], a["high"] = sorted((r.choice([v for v in values if v is not None] or [1]) for _ in range(2)), key=rank)
            out.append((name, description, a))
    return out


def world_of(corpus, env):
    found = sorted(glob.glob(os.path.join(corpus, "environments", env, "world.db")) + glob.glob(os.path.join(corpus, "work", env, "*", "world.db")))
    return found[0] if found else None


def check(gatecheck, world, tools, r):
    """The names of tools that are not right, each with the reason."""
    db = sqlite3.connect("file:%s?mode=ro" % world, uri=True)
    tables = {n: Table(db, n) for (n,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")}
    calls = calls_for(r, tables, tools)
    wrong = {name: answer for name, source, _, _, answer in tools if not source}
    line = json.dumps({"world": world, "tools": "\n".join(t[1] for t in tools if t[1]), "calls": [[n, a] for n, _, a in calls]})
    out = json.loads(subprocess.run([gatecheck], input=line + "\n", capture_output=True, text=True, check=True).stdout)
    if "results" not in out:
        raise SystemExit("toolcheck: %s: %s" % (world, out))
    for (name, description, a), got in zip(calls, out["results"]):
        known, want = reference(tables, description, a)
        if not known:
            wrong.setdefault(name, "its description promises nothing known: " + description)
        elif got.startswith("error"):
            if want is not None:
                wrong.setdefault(name, "%s(%s) gives %s" % (name, json.dumps(a), got))
        elif not same(json.loads(got), want):
            wrong.setdefault(name, "%s(%s) gives %s and not %s" % (name, json.dumps(a), got[:200], json.dumps(want)[:200]))
    return wrong


def main(gatecheck, corpora):
    r, right, n, whole, sets = random.Random(7), 0, 0, 0, 0
    for corpus in corpora:
        db = sqlite3.connect("file:%s/corpus.db?mode=ro" % corpus, uri=True)
        for env, transcript in db.execute("SELECT environment, transcript FROM stages WHERE stage = 'tools' AND sample = 0 ORDER BY environment"):
            tools, world = tools_of(json.loads(transcript)), world_of(corpus, env)
            if not world:
                print("%s: its world was not kept: left out" % env)
                continue
            wrong = check(gatecheck, world, tools, r)
            for name, why in sorted(wrong.items()):
                print("%s: %s: %s" % (env, name, why))
            n, right, sets, whole = n + len(tools), right + len(tools) - len(wrong), sets + 1, whole + (not wrong)
    print("%d of %d tools load and are right (%.0f%%), %d of %d first sets are whole" % (right, n, 100 * right / max(n, 1), whole, sets))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
