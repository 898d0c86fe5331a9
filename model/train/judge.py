"""A quick look at a trained model on the GPU: solver rates by real conversation with
the tools in Python, and author's turns written out for the real gates.

What counts is the evaluation with agon itself (model/embedded/README.md); this one
tells within a minute whether a run went well.
"""
import collections
import json
import os
import random

import checks
import decode
import stages
import tasks
import toolset as T
import world as Wd
from encoding import Document

EVAL_SEED = 424242


def parse_calls(text):
    """[(name, {argument: value})] of a completion, or None where it is malformed."""
    i = text.find("\n\n<｜DSML｜function_calls>\n")
    if i < 0:
        return []
    out = []
    for part in text[i:].split('<｜DSML｜invoke name="')[1:]:
        if '">' not in part:
            return None
        name, rest = part.split('">', 1)
        args = {}
        for p in rest.split('<｜DSML｜parameter name="')[1:]:
            try:
                key, rest2 = p.split('" string="', 1)
                kind, value = rest2.split('">', 1)
                value = value[:value.index("</｜DSML｜parameter>")]
                args[key] = value if kind == "true" else json.loads(value)
            except ValueError:
                return None
        out.append((name, args))
    return out


def answer_call(world, tools, name, args):
    f = next((t for t in tools if t.name == name), None)
    if not f:
        return "error: no tool '%s'" % name
    kinds = {"string": str, "integer": int, "number": (int, float)}
    for a, k in f.args:
        if a not in args:
            return "error: arguments: property '%s' is missing" % a
        if not isinstance(args[a], kinds[k]) or isinstance(args[a], bool):
            return "error: arguments.%s: expected %s" % (a, k)
    try:
        return T.render(f.call(world, args))
    except Exception as e:
        return "error: %s" % e


def equal(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b and isinstance(a, str) == isinstance(b, str)


def solver_rates(m, t, cases, samples, log, tag, temperature=1.0, seconds=60):
    """cases: [(world, tools, task)]."""
    prompts = stages.Prompts()
    starts, jobs = [], []
    for world, tools, task in cases:
        d = Document("solver")
        d.system(prompts.text["solver"], [T.dumps(f.function()) for f in tools] + [prompts.tools["submit_result"]])
        d.user(prompts.fill("task", prompt=task.prompt(), schema=T.dumps(task.schema())))
        ids, _ = d.encode(t.encode, t.control)
        for _ in range(samples):
            starts.append(ids)
            jobs.append((world, tools, task))
    result, ends, turns, shown = [None] * len(jobs), collections.Counter(), [0] * len(jobs), {}

    def on_turn(i, ids):
        world, tools, task = jobs[i]
        text = t.decode(ids)
        calls = parse_calls(text)
        turns[i] += 1
        if not calls or turns[i] > 12:
            ends["malformed" if calls is None else "no call" if not calls else "turns"] += 1
            return None
        texts = []
        for name, args in calls:
            if name == "submit_result":
                try:
                    result[i] = equal(json.loads(args.get("answer_text", "")), task.answer())
                except (ValueError, TypeError):
                    result[i] = False
                ends["submitted"] += 1
                if not result[i] and len(shown) < 6:
                    shown[i] = (task.prompt(), task.answer(), text)
                return None
            texts.append(answer_call(world, tools, name, args))
        d = Document("x")
        d.results(texts)
        return d.encode(t.encode, t.control)[0]

    decode.generate(m, starts, temperature, t.control["<｜end▁of▁sentence｜>"], on_turn, length=3072, seconds=seconds)
    by = collections.defaultdict(list)
    for k, (world, tools, task) in enumerate(cases):
        by[task.level].append(sum(bool(x) for x in result[k * samples:(k + 1) * samples]))
    log(tag, "ends", dict(ends))
    for level, cs in sorted(by.items()):
        log(tag, "level %d: n %d pass@1 %.3f pass@%d %.3f inside (0,1) %.2f" % (
            level, len(cs), sum(cs) / len(cs) / samples, samples, sum(c > 0 for c in cs) / len(cs), sum(0 < c < samples for c in cs) / len(cs)))
    for s in list(shown.values())[:3]:
        log("WRONG", *s)


def cases(r, real, n, held_words=False, held_pairs=False, levels=(1, 2, 3, 4, 5), reword=False):
    out = []
    while len(out) < n:
        level = levels[len(out) % len(levels)]
        world = Wd.make_world(r, real)
        tools = T.make_tools(r, world)
        if len(tools) < 4:
            continue
        x = checks.Context(r, world, Wd.View(r, world), tools)
        task = tasks.first_level(r, x, held_words, held_pairs="only" if held_pairs else False, level=level)
        if task:
            out.append((world, tools, task.reworded(r, held_words) if reword else task))
    return out


def author_turns(m, t, r, real, n, log, out, temperature=0.8, seconds=60):
    """First turns of tools and level stages, written to author.jsonl with their worlds."""
    prompts, starts, meta = stages.Prompts(), [], []
    while len(starts) < n:
        world = Wd.make_world(r, real)
        tools = T.make_tools(r, world)
        if len(tools) < 4 or max(t_.n for t_ in world.tables) > 300:
            continue
        view = Wd.View(r, world)
        dump = [{"name": a.name, "key": a.key, "columns": [[c.name, c.type] for c in a.columns], "rows": a.rows()} for a in world.tables]
        d = Document("tools")
        prompts.author(d, "define_tool", "bash")
        d.user(prompts.fill("tools", category=world.category, world=view.text))
        starts.append(d.encode(t.encode, t.control)[0])
        meta.append({"stage": "tools", "tables": dump})
        x = checks.Context(r, world, view, tools)
        for level in (1, 2 + r.randrange(4)):
            below = tasks.first_level(r, x, level=level - 1) if level > 1 else None
            if level > 1 and not below:
                continue
            d = Document("level")
            prompts.author(d, "propose_task", "define_tool", "bash")
            d.user(stages.level_user(prompts, world, view, tools, level, below.below_text() if below else ""))
            starts.append(d.encode(t.encode, t.control)[0])
            meta.append({"stage": "level", "level": level, "tables": dump, "tools": "\n".join(f.lua() for f in tools), "below": below.arguments() if below else None})

    with open(os.path.join(out, "author.jsonl"), "w") as f:
        def on_turn(i, ids):
            f.write(json.dumps(dict(meta[i], completion=t.decode(ids)), ensure_ascii=False) + "\n")
            return None
        decode.generate(m, starts, temperature, t.control["<｜end▁of▁sentence｜>"], on_turn, length=4096, seconds=seconds)
    log("author turns written:", len(starts))


def judge(m, t, tables, n, log, out):
    r, real = random.Random(EVAL_SEED), Wd.Real(tables)
    author_turns(m, t, r, real, 2 * n, log, out)
    solver_rates(m, t, cases(r, real, n), 8, log, "solver")
    solver_rates(m, t, cases(r, real, 2 * n, held_words=True), 8, log, "solver, held-out wordings")
    solver_rates(m, t, cases(r, real, 2 * n, held_words=True, reword=True), 8, log, "solver, held-out wordings and phrases")
    solver_rates(m, t, cases(r, real, n // 2, held_pairs=True, levels=(2, 3)), 8, log, "solver, held-out pairs")
