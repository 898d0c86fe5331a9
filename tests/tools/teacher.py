"""Tasks as lines for gatecheck, every ladder's levels in their order: teacher.py N SEED [WRITING].

N tasks of the teacher in model/train, which only read, then WRITING tasks over the same kind of worlds that write.
"""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "train"))
sys.dont_write_bytecode = True
import checks
import tasks
import toolset
import world as worlds


def ladder(r):
    """(tables, tools, [task of level 1, 2, ...]) of one random world, or None."""
    world = worlds.make_world(r)
    tools = toolset.make_tools(r, world)
    if len(tools) < 4:
        return None
    task, levels = tasks.first_level(r, checks.Context(r, world, worlds.View(r, world), tools)), []
    top = r.choice((1, 2, 3, 4, 5))
    while task:
        levels.append(task)
        if task.level == top:
            break
        task = tasks.next_level(r, task, checks.Context(r, world, worlds.View(r, world), tools))
    return (dump(world), "\n".join(f.lua() for f in tools), [dict(l.arguments(), level=l.level) for l in levels]) if levels else None


# ---- tasks that write: a column set, a row removed, a note added, each about the row at one end of a column

def tool(name, about, params, body):
    schema = {"type": "object", "properties": params, "required": list(params)}
    return ("tool{ name = '%s', description = '%s', writes = %s,\n  params = [[%s]],\n  returns = [[{\"type\": \"object\"}]],\n"
            "  run = function(world, a)\n%s  return {}\n  end }\n" % (name, about, "true", json.dumps(schema), body))


def writing_tools(t, key, x, c):
    k = {"type": "string" if t[key].type == "TEXT" else "integer"}
    gone = "    if world:value('SELECT count(*) FROM %s WHERE %s = ?', a.%s) == 0 then error('no such row', 0) end\n" % (t.name, key, key)
    reads = ("tool{ name = 'list_%s', description = 'All rows.', params = [[{\"type\": \"object\", \"properties\": {}}]],\n"
             "  returns = [[{\"type\": \"array\"}]], run = function(world)\n"
             "    return world:rows('SELECT %s AS k, %s AS x FROM %s ORDER BY %s') end }\n" % (t.name, key, x, t.name, key))
    return reads + tool("set_" + c, "Set a column of one row.", {key: k, "value": {"type": "string"}},
                        gone + "    world:exec('UPDATE %s SET %s = ? WHERE %s = ?', a.value, a.%s)\n" % (t.name, c, key, key)) + \
        tool("remove_row", "Remove one row.", {key: k}, gone + "    world:exec('DELETE FROM %s WHERE %s = ?', a.%s)\n" % (t.name, key, key)) + \
        tool("add_note", "Note something.", {"note": {"type": "string"}, "about": {"type": "string"}},
             "    local id = world:value('SELECT coalesce(max(note_id), 0) + 1 FROM notes')\n"
             "    world:exec('INSERT INTO notes VALUES (?, ?, ?)', id, a.about, a.note)\n")


def check(name, text, body):
    return "check{ name = '%s', text = '%s', run = function(world, answer, changes)\n%s\nend }\n" % (name, text, body)


def writing_levels(r, t, key, x, c):
    """Levels 1 to 3: one thing more is written each time. High and low rows are told by x, then key."""
    word, note, low = r.choice(("checked", "on hold", "to review")), r.choice(("second look", "call back", "ask again")), r.random() < 0.5
    first = "(x == best.x and one.k < best.k)"
    ends = {"high": ("highest", "one.x > best.x or " + first.replace("x ==", "one.x =="), "DESC"),
            "low": ("lowest", "one.x < best.x or " + first.replace("x ==", "one.x =="), "ASC")}
    a, b = ("low", "high") if low else ("high", "low")
    find = lambda name, end: "  local %s\n  for _, one in ipairs(rows) do local best = %s if not best or %s then %s = one end end\n" % (name, name, ends[end][1], name)
    prompt = "In the table %s set the column %s of the row with the %s %s (the first by %s where equal) to '%s'. Submit its %s as `row` and its %s as `at`." % (
        t.name, c, ends[a][0], x, key, word, key, x)
    kind = lambda col: {"type": {"TEXT": "string", "INTEGER": "integer", "REAL": "number"}[t[col].type]}
    schema = {"type": "object", "properties": {"row": kind(key), "at": kind(x)}, "required": ["row", "at"]}
    want = "  local want = world:row('SELECT %s AS k, %s AS x FROM %s ORDER BY %s %s, %s')\n" % (key, x, t.name, x, ends[a][2], key)
    checks_ = [check("set", "set the column %s of the row with the %s %s" % (c, ends[a][0], x),
                     want + "  return #changes:updated('%s', {%s = want.k, %s = '%s'}) == 1" % (t.name, key, c, word)),
               check("row", "its %s as `row`" % key, want + "  return answer.row == want.k"),
               check("at", "its %s as `at`" % x, want + "  return answer.at == want.x")]
    body = "  tools.set_%s{%s = top.k, value = '%s'}\n" % (c, key, word)
    more = [("Remove the row with the %s %s as well (the first by %s where equal)." % (ends[b][0], x, key),
             check("removed", "Remove the row with the %s %s" % (ends[b][0], x),
                   "  local gone = changes:deleted('%s')\n  if #gone ~= 1 then return false end\n"
                   "  return world:value('SELECT count(*) FROM %s WHERE %s %s ? OR (%s = ? AND %s < ?)', gone[1].%s, gone[1].%s, gone[1].%s) == 0"
                   % (t.name, t.name, x, "<" if b == "low" else ">", x, key, x, x, key)),
             find("other", b) + "  if top.k == other.k then return nil end\n  tools.remove_row{%s = other.k}\n" % key),
            ("Add the note '%s' about '%s'." % (note, t.name),
             check("noted", "Add the note", "  return #changes:inserted('notes', {about = '%s', note = '%s'}) == 1" % (t.name, note)),
             "  tools.add_note{about = '%s', note = '%s'}\n" % (t.name, note))]
    effects = [{"table": t.name, "operations": ["update", "delete"]}, {"table": "notes", "operations": ["insert"]}]
    for level in (1, 2, 3):
        yield {"prompt": prompt, "answer_schema": schema, "level": level, "effects": effects, "verifier": "".join(checks_),
               "solution": "return function(tools)\n  local rows = tools.list_%s{}\n" % t.name + find("top", a)
                           + "  if not top then return nil end\n" + body + "  return {row = top.k, at = top.x}\nend\n"}
        if level < 3:
            text, one, does = more[level - 1]
            prompt, body = prompt + " " + text, body + does
            checks_.append(one)


def writing_ladder(r):
    world = worlds.make_world(r)
    t = world.tables[0]
    full = lambda c: len([v for v in t.rows() if v[t.columns.index(c)] is not None]) == t.n
    xs = [c.name for c in t.columns if c.type != "TEXT" and c.name != t.key and c.n >= 8 and full(c)]
    cs = [c.name for c in t.columns if c.type == "TEXT" and c.name != t.key]
    if t.n < 25 or not xs or not cs or t[t.key].type == "REAL":
        return None
    x, c = r.choice(xs), r.choice(cs)
    tables = dump(world) + [{"name": "notes", "key": "note_id", "columns": [["note_id", "INTEGER"], ["about", "TEXT"], ["note", "TEXT"]],
                             "rows": [[1, "stock", "second look"], [2, "desk", "call back"]]}]
    return tables, writing_tools(t, t.key, x, c), list(writing_levels(r, t, t.key, x, c))


# ---- lines

def dump(world):
    return [{"name": t.name, "key": t.key, "columns": [[c.name, c.type] for c in t.columns], "rows": t.rows()} for t in world.tables]


def lines(n, seed, n_writing=0):
    r, made = random.Random(seed), 0
    while made < n + n_writing:
        one = ladder(r) if made < n else writing_ladder(r)
        if not one:
            continue
        tables, tools, levels = one
        below = None
        for it in levels[: (n if made < n else n + n_writing) - made]:
            yield {"tables": tables, "tools": tools, "task": it, "below": below}
            below, made = it, made + 1


if __name__ == "__main__":
    for line in lines(*map(int, sys.argv[1:])):
        print(json.dumps(line, ensure_ascii=False))
