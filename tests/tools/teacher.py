"""Tasks of the teacher in model/train as lines for gatecheck: teacher.py N SEED. Every ladder's levels in their order."""
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
    """(world, tools, [task of level 1, 2, ...]) of one random world, or None."""
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
    return (world, tools, levels) if levels else None


def lines(n, seed):
    r, made = random.Random(seed), 0
    while made < n:
        one = ladder(r)
        if not one:
            continue
        world, tools, levels = one
        tables = [{"name": t.name, "key": t.key, "columns": [[c.name, c.type] for c in t.columns], "rows": t.rows()} for t in world.tables]
        below = None
        for task in levels[: n - made]:
            it = dict(task.arguments(), level=task.level)
            yield {"tables": tables, "tools": "\n".join(f.lua() for f in tools), "task": it, "below": below}
            below, made = it, made + 1


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps(line, ensure_ascii=False))
