"""The stages as documents: whole conversations in the protocol of synth/PROTOCOL.md.

Author: tools and level stages; solver. (retrieve.py has the retrieve stage.) Loss
falls on the model's own turns only, and never on a planted mistake: of a call that
goes wrong the model learns the repair.
"""
import copy
import functools
import json
import os
import re

import checks
import novelty
import tasks
import toolset as T
import wordings
import words as W
from retrieve import page
from encoding import Call, Document

PROMPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "synth", "prompts")


@functools.cache  # read once: a run of an hour does not depend on files that may go
def _text(path):
    with open(path, encoding="utf-8") as f:
        return f.read().rstrip("\n")


class Prompts:
    def __init__(self, path=PROMPTS):
        read = lambda n: _text(os.path.join(path, n))
        self.text = {n: read(n + ".md") for n in ("author", "retrieve", "tools", "level", "solver", "task")}
        self.tools = {t["function"]["name"]: json.dumps(t["function"], ensure_ascii=False) for t in json.loads(read("tools.json"))}

    def fill(self, name, **slots):
        out, at, text = [], 0, self.text[name]
        while True:
            i = text.find("{{", at)
            if i < 0:
                return "".join(out) + text[at:]
            j = text.index("}}", i)
            out += [text[at:i], slots[text[i + 2:j]]]
            at = j + 2

    def author(self, doc, *names):
        doc.system(self.text["author"], [self.tools[n] for n in names])


def tools_text(tools):
    return "".join(t.line() for t in tools)


# ---- tools

LUA_WORDS = set("tool name description params returns run world a rows row value type object properties required array items".split())


def _break(r, tool):
    """A tool's source with a mistake, the error, and what is wrong in words."""
    source, name, u = tool.lua(), tool.name, r.random()
    if u < 0.5:  # a column that the table does not have, as if remembered from elsewhere
        have = [c.name for c in tool.t.columns]
        used = [c for c in have if re.search(r"\b%s\b" % c, tool.sql) and c not in LUA_WORDS]
        wrong = r.choice((W.ident(r, W.CATEGORY + W.NAMECOL + W.NUMBER, set(have)), r.choice(have) + r.choice(("s", "_2", "_name")), r.choice(have)[:-1] or "x"))
        if used and wrong not in have and wrong != tool.t.name:
            source = re.sub(r"\b%s\b" % r.choice(used), wrong, source)
            name = source.split('"', 2)[1]
            return source, "error: tool '%s': tools:2: SQL: no such column: %s" % (name, wrong), "No column %s; %s has %s" % (wrong, tool.t.name, ", ".join(have[:8]))
    if u < 0.75:
        return source[:source.rindex("\nend }")] + " }", "error: tools:3: 'end' expected near '}'", "Mend"
    if u < 0.88:
        return source.replace("[[{", "[[", 1), "error: tool '%s': params: this is no JSON" % name, "Mend"
    return source.replace(", run = function", ", runs = function", 1), "error: tool '%s': unknown field 'runs'" % name, "Mend"


def tools_doc(r, prompts, world, view, tools):
    d = Document("tools")
    prompts.author(d, "define_tool", "bash")
    d.user(prompts.fill("tools", category=world.category, world=view.text))
    plan = []
    for t in world.tables:
        q = T.Roles(t)
        parts = ["%s: key %s" % (t.name, t.key), "columns " + ", ".join(c.name for c in t.columns if c.name != t.key)]
        for label, cs in (("names", q.names), ("groups", q.cats), ("numbers", q.ordered)):
            if cs:
                parts.append(label + " " + ", ".join(c.name for c in cs[:4]))
        plan.append("; ".join(parts) + ".")
    thought = "\n".join(plan) + "\nTools: " + ", ".join(t.name for t in tools) + "."
    rate = r.choice((0, 0, 0.2))
    left, good = list(tools), 0
    while left:
        calls, results, said, again = [], [], [], []
        for t in left:
            broken = _break(r, t) if r.random() < rate else None
            calls.append(Call("define_tool", {"source": broken[0] if broken else t.lua()}, skip=bool(broken)))
            results.append(broken[1] if broken else "ok: " + t.signature())
            good += not broken
            if broken:
                said.append(broken[2])
                again.append(t)
        d.assistant(thought, calls=calls)
        d.results(results)
        if len(again) > 1 or good > 2 and r.random() < 0.2:
            again = again[:-1]  # what does not come right is left out
        thought = ". ".join(dict.fromkeys(said)) + ": " + ", ".join(t.name for t in again) + "."
        left, rate = again, 0.1
    d.assistant("", "The tools suffice.")
    return d


# ---- levels

def _plan(task, leaves):
    return "\n".join("%s = %s; %s" % (l.name, l.expr, l.note) for l in leaves)


def level_user(prompts, world, view, tools, level, below):
    return prompts.fill("level", category=world.category, world=view.text, tools=tools_text(tools), below=below, level=str(level),
                        harder="" if level == 1 else " that is harder than the one above: one more thing is asked, or more calls are needed",
                        guess={1: "0.05", 2: "0.01"}.get(level, "0.001"))


def _spoil(r, task):
    """A proposal with a mistake and the refusal that it meets."""
    a = task.arguments()
    leaf = r.choice(task.leaves)
    u = r.random()
    if u < 0.2:  # a name that was copied badly
        at = r.randrange(1, len(task.leaves[-1].calls[-1][0][0].name))
        tool = task.leaves[-1].calls[-1][0][0].name
        wrong = r.choice((tool[:at] + tool[at - 1] + tool[at:], tool[:at] + tool[at + 1:]))
        a["solution"] = re.sub(r"tools\.%s\b" % tool, "tools." + wrong, a["solution"])
        return a, "error: gate 2 (golden): the solution gives no answer: solution:%d: attempt to call a nil value (field '%s')" % (len(task.leaves) + 1, wrong)
    if u < 0.35:
        table = task.x.world.tables[0].name
        wrong = r.choice((table[:-1], table + table[-1], table + "s"))
        what = "no such table: " + wrong if r.random() < 0.5 else "no such column: " + table
        a["verifier"] = re.sub(r"FROM %s\b" % table, "FROM " + wrong, a["verifier"]) if what[8] == "t" else re.sub(r"WHERE \w+", "WHERE " + table, a["verifier"], 1)
        text = T.dumps(task.answer())
        return a, "error: gate 2 (golden): the solution's answer %s does not pass: check '%s' ends in an error (verifier:2: SQL: %s)" % (text if len(text) <= 80 else text[:80] + "...", task.leaves[0].name, what)
    if u < 0.5:
        text = leaf.text.replace("the ", "", 1).replace("which ", "what ", 1) + " now"
        a["verifier"] = a["verifier"].replace("[[" + leaf.text + "]]", "[[" + text + "]]")
        return a, "error: gate 7 (text): the text of check '%s' does not stand in the prompt word for word: \"%s\"" % (leaf.name, text[:80])
    if u < 0.7:
        tool = task.leaves[0].calls[-1][0][0].name
        a["solution"] = a["solution"].replace("tools." + tool, "tools.x_" + tool, 1)
        return a, "error: gate 2 (golden): the solution gives no answer: solution:2: attempt to call a nil value (field 'x_%s')" % tool
    if u < 0.85:
        a["solution"] = a["solution"].replace("return {", "return {extra = 1, ", 1)
        return a, "error: gate 2 (golden): the solution gives no answer: answer: unknown property 'extra' (known: %s)" % ", ".join(l.name for l in task.leaves)
    a["verifier"] = a["verifier"].replace(" == ", " ~= ", 1)
    text = T.dumps(task.answer())
    return a, "error: gate 2 (golden): the solution's answer %s does not pass: check '%s' fails" % (text if len(text) <= 80 else text[:80] + "...", task.leaves[0].name)


def _another(r, task, below):
    """A task for the same place whose last leaf is of another kind or tool; None where none was found."""
    other = tasks.next_level(r, below, task.x) if below else tasks.first_level(r, task.x)
    used = {(l.kind, f.name) for l in task.leaves[len(below.leaves) if below else 0:] for stage in l.calls for f, _ in stage}
    if not other or any((other.leaves[-1].kind, f.name) in used for stage in other.leaves[-1].calls for f, _ in stage):
        return None
    return other


def _refused(r, task, below):
    """Another proposal that a gate refuses, and the refusal: (None, None) where none was found.

    Such errors are those of a model (a place past the end, a key that no row has), so
    the way out is a task of another kind and not the same once more.
    """
    if not below and r.random() < 0.4:  # what stays the same in every world is refused
        weak = tasks.Task(r, task.x)
        if weak.add(r, weak=True) and not weak.leaves[0].carries() and weak.leaves[0].value not in (0, 0.0):
            return weak, "error: gate 8 (metamorphic): the solution gives the same answer in %d of 8 worlds with other values: it is written into the solution, or does not depend on what it reads" % r.choice((7, 8, 8))
    if below and r.random() < 0.15:  # what an author falls into where its view shows little: the same once more in other words
        same = below.copy()
        same.level, same.x = task.level, task.x
        leaf = copy.copy(r.choice(below.leaves))
        base, leaf.name = leaf.name, leaf.name + "_b"
        leaf.text = wordings.sentence(r, leaf.kind, leaf.slots, False)
        if len(leaf.name) <= 40 and leaf.name not in {l.name for l in below.leaves}:
            same.leaves.append(leaf)
            return same, "error: gate 7 (text): check '%s' asks what check '%s' asks already; ask for something else" % (leaf.name, base)
    other = _another(r, task, below)
    if not other:
        return None, None
    leaf, tool = other.leaves[-1], other.leaves[-1].calls[-1][0][0]
    why = ["answer: property '%s' is missing" % leaf.name, "solution:%d: attempt to index a nil value (field 'integer index')" % (len(other.leaves) + 1)]
    if tool.mode == "row":
        why = ["tool '%s': result: expected object, got null" % tool.name]
    elif tool.mode == "value" and leaf.type == "integer" and not below and len(other.leaves) == 1:
        return other, ("error: gate 3 (rejects): the verifier accepts an answer without content ({\"%s\": 0}) on the untouched world; a check must compare it with what the world says, "
                       "and the right answer must not be nothing" % leaf.name)
    elif leaf.type == "string" and not below and len(other.leaves) == 1 and r.random() < 0.5:
        return other, "error: gate 7 (text): everything in the answer stands in the prompt already; ask for something to be found"
    return other, "error: gate 2 (golden): the solution gives no answer: " + r.choice(why)


def level_doc(r, prompts, world, view, tools, task, below=None, others=(), new_tool=None):
    """task: what is proposed; below: the level under it; new_tool: one that must be defined first."""
    d = Document("level")
    prompts.author(d, "propose_task", "define_tool", "bash")
    shown = [t for t in tools if t is not new_tool]
    text = below.below_text() if below else ""
    if others:
        text = "Tasks that exist already:\n" + "".join("- %s\n" % o.prompt().replace("\n", " ") for o in others)
    d.user(level_user(prompts, world, view, shown, task.level, text))
    leaves = task.leaves[len(below.leaves):] if below else task.leaves
    thought = "Level %d asks %s:\n" % (task.level, "one more" if below and len(leaves) == 1 else "more" if below else "this") + _plan(task, leaves)
    if new_tool:
        d.assistant("A tool is missing: %s." % new_tool.name, calls=[Call("define_tool", {"source": new_tool.lua()})])
        d.results(["ok: " + new_tool.signature()])
    refused, drawn = False, [t for t in (task, below) if t]
    for _ in range(r.choices((0, 1, 2), (0.86, 0.1, 0.04))[0] if not new_tool else 0):
        other, error = _refused(r, task, below)
        if other:
            plan = _plan(other, other.leaves[len(below.leaves) if below else 0:])
            d.assistant(("Another task.\n" if refused else "") + thought.split("\n")[0] + "\n" + plan, calls=[Call("propose_task", other.arguments(), skip=True)], loss=False)
            d.results([error])
            drawn.append(other)
            refused = True
    if refused:
        thought = "Another task.\n" + thought
    u = r.random()
    other = _another(r, task, below) if u < 0.08 and not new_tool and not refused else None
    if other:
        bad, error = _spoil(r, other)
        drawn.append(other)
        plan = _plan(other, other.leaves[len(below.leaves) if below else 0:])
        d.assistant(thought.split("\n")[0] + "\n" + plan, calls=[Call("propose_task", bad, skip=True)], loss=False)
        d.results([error])
        d.assistant("Another task.\n" + thought, calls=[Call("propose_task", task.arguments())])
    elif u < 0.14 and not new_tool and not refused and len(leaves) > 1:
        early = task.copy()
        early.leaves = task.leaves[:-1]
        if early.guess() > 1.4 * tasks.guess_limit(task.level) and early.leaves:
            drawn.append(early)
            first = leaves[:-1]
            d.assistant(thought.split("\n")[0] + "\n" + _plan(task, first), calls=[Call("propose_task", early.arguments(), skip=True)], loss=False)
            n, text = min(10000, int(early.guess() * 10000)), T.dumps(early.answer())
            d.results(["error: gate 9 (guessing): %d of 10000 guesses pass (%.4g; level %d allows %g), for example %s; ask for more leaves, such as a name and a number together" % (
                n, n / 10000, task.level, tasks.guess_limit(task.level), text if len(text) <= 80 else text[:80] + "...")])
            d.assistant("One more leaf:\n" + _plan(task, leaves[-1:]), calls=[Call("propose_task", task.arguments())])
        else:
            d.assistant(thought, calls=[Call("propose_task", task.arguments())])
    else:
        d.assistant(thought, calls=[Call("propose_task", task.arguments())])
    d.meta = {"level": task.level, "kinds": [l.kind for l in task.leaves], "skeletons": [novelty.mark(t.verifier()) for t in drawn]}
    return d


# ---- solver

def _mistake(r, f, args):
    """A wrong call for f(args) and its error."""
    u = r.random()
    bad = dict(args)
    if args and u < 0.6:
        k = r.choice(list(args))
        if u < 0.3:
            bad[k + r.choice(("s", "_id", "_name"))] = bad.pop(k)
            wrong = [x for x in bad if x not in args][0]
            return f.name, bad, "error: arguments: unknown property '%s' (known: %s)" % (wrong, ", ".join(a for a, _ in f.args))
        bad.pop(k)
        return f.name, bad, "error: arguments: property '%s' is missing" % k
    return f.name + "s", bad, None


def solver_doc(r, prompts, world, tools, task):
    d = Document("solver")
    if r.random() < 0.6:
        task = task.reworded(r)
    submit = prompts.tools["submit_result"]
    d.system(prompts.text["solver"], [T.dumps(f.function()) for f in tools] + [submit])
    d.user(prompts.fill("task", prompt=task.prompt(), schema=T.dumps(task.schema())))
    depth = max(len(l.calls) for l in task.leaves)
    total, done = 0, {l.name: [] for l in task.leaves}
    for s in range(depth):
        batch, order = [], []
        for l in task.leaves:
            if s >= len(l.calls):
                continue
            order.append(l.name)
            rs = []
            for (f, a), value in zip(l.calls[s], l.results[s]):
                args = a(l.results) if callable(a) else a
                rs.append(value)
                if not any(b[0] is f and b[1] == args for b in batch):
                    batch.append((f, args, value))
            done[l.name].append(rs)
        thought = ("Look up " if s == 0 else "Then ") + ", ".join(order) + "."
        texts = [page(T.render(v)) for _, _, v in batch]
        total += sum(map(len, texts))
        if r.random() < 0.03:
            i = r.randrange(len(batch))
            name, bad, error = _mistake(r, batch[i][0], batch[i][1])
            error = error or "error: no tool '%s'; there are: %s" % (name, ", ".join([f.name for f in tools] + ["submit_result"]))
            d.assistant(thought, calls=[Call(name, bad, skip=True) if j == i else Call(f.name, a) for j, (f, a, _) in enumerate(batch)])
            d.results([error if j == i else t for j, t in enumerate(texts)])
            d.assistant("Mend the call.", calls=[Call(batch[i][0].name, batch[i][1])])
            d.results([texts[i]])
        else:
            d.assistant(thought, calls=[Call(f.name, a) for f, a, _ in batch])
            d.results(texts)
    notes = ["%s: %s" % (l.name, l.done(done[l.name][-1], l.value)) for l in task.leaves if l.done]
    d.assistant("\n".join(notes), calls=[Call("submit_result", {"answer_text": T.dumps(task.answer())})])
    d.meta = {"level": task.level, "kinds": [l.kind for l in task.leaves], "chars": total}
    return d


# ---- a family of documents over one world

def world_docs(r, prompts, world, view_of, max_results=4200):
    """All documents that one world gives: tools, one or two ladders, solvers."""
    out = []
    tools = T.make_tools(r, world)
    if len(tools) < 4:
        return out
    out.append(tools_doc(r, prompts, world, view_of(r, world), tools))
    for _ in range(2):
        other = T.make_tools(r, world)
        if len(other) >= 4:
            out.append(tools_doc(r, prompts, world, view_of(r, world), other))
    lines = []
    for _ in range(2):
        x = checks.Context(r, world, view_of(r, world), tools)
        task = tasks.first_level(r, x)
        below, others = None, lines[:]
        top = r.choice((2, 4, 5, 6, 7))
        while task:
            if task.level == 1 or r.random() < 0.62:
                fresh = None
                families = {l.calls[0][0][0] for l in task.leaves[len(below.leaves) if below else 0:]} | {
                    f for l in task.leaves[len(below.leaves) if below else 0:] for stage in l.calls for f, _ in stage}
                if below and r.random() < 0.15 and len(tools) > 4:
                    used = {f for l in below.leaves for stage in l.calls for f, _ in stage}
                    spare = [f for f in families if f not in used]
                    fresh = r.choice(spare) if spare else None
                out.append(level_doc(r, prompts, world, x.view, tools, task, below, others if not below else (), fresh))
            if r.random() < (0.85 if task.level > 3 else 0.55):
                out.append(solver_doc(r, prompts, world, tools, task))
            if task.level >= top:
                break
            below = task
            x = checks.Context(r, world, view_of(r, world), tools)  # the next stage is another episode: other rows are shown
            task = tasks.next_level(r, task, x)
        if below:
            lines.append(below)
    return [d for d in out if d.kind != "solver" or d.meta["chars"] <= max_results]
