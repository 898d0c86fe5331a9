"""How new are kept tasks? Verifier skeletons and nearest prompts against the teacher.

usage: novelty.py TABLES.json.gz CORPUS SECONDS [OUT.md]

The teacher writes tasks for SECONDS (with seeds of its own: training drew some
600,000, so a skeleton absent here may have stood there; the share is an upper bound).
Prints the share of the corpus's tasks whose skeleton (names and literals removed) is not
among them; OUT.md gets 20 random tasks unedited, each beside the nearest prompt.
"""
import glob
import json
import os
import random
import re
import sys
import time

import checks
import tasks
import toolset
import world as Wd

KEYWORDS = set("""SELECT FROM WHERE ORDER BY DESC LIMIT OFFSET COUNT SUM ROUND AVG MAX MIN LENGTH DISTINCT AND IS NOT NULL LIKE GROUP
IN COALESCE AS OR ASC JOIN ON""".split())


def skeleton(verifier):
    """The verifier without names, texts and literals."""
    v = re.sub(r"\[\[.*?\]\]", "T", verifier, flags=re.S)
    v = re.sub(r'name = "[^"]*"', "N", v)
    v = re.sub(r'world:(\w+)\("([^"]*)"', lambda m: "world:%s(%s" % (m.group(1), re.sub(
        r"[A-Za-z_]\w*", lambda w: w.group(0) if w.group(0) in KEYWORDS else "x", m.group(2))), v)
    v = re.sub(r'"[^"]*"', "v", v)
    v = re.sub(r"(answer|row)\.\w+", r"\1.x", v)
    return re.sub(r"(?<![\w.])-?\d+(\.\d+)?", "v", v)


def teacher(path, seconds):
    r, real, out, t0 = random.Random("novelty"), Wd.Real(path), [], time.time()
    while time.time() - t0 < seconds:
        world = Wd.make_world(r, real)
        tools = toolset.make_tools(r, world)
        if len(tools) < 4:
            continue
        for _ in range(2):
            x = checks.Context(r, world, Wd.View(r, world), tools)
            t, top = tasks.first_level(r, x), r.choice((2, 4, 5, 6, 7))
            while t:
                out.append((t.prompt(), skeleton(t.verifier()), t.level))
                if t.level >= top:
                    break
                t = tasks.next_level(r, t, x)
    return out


def shingles(text):
    w = re.findall(r"\w+", text.lower())
    return {tuple(w[i:i + 3]) for i in range(len(w) - 2)}


def main(tables, corpus, seconds, out=None):
    known = teacher(tables, float(seconds))
    seen, kept = {s for _, s, _ in known}, []
    for path in sorted(glob.glob(os.path.join(corpus, "environments", "*", "tasks", "*"))):
        read = lambda n: open(os.path.join(path, n), encoding="utf-8").read().strip()
        kept.append((path.split(os.sep)[-3] + "/" + os.path.basename(path), read("prompt.md"), read("verifier.lua"), json.loads(read("task.json"))["level"]))
    if not kept:
        raise SystemExit("novelty: %s holds no task" % corpus)
    new = [k for k in kept if skeleton(k[2]) not in seen]
    print("%d teacher tasks with %d skeletons; %d of %d kept tasks have another (%.0f%%)" % (len(known), len(seen), len(new), len(kept), 100 * len(new) / len(kept)))
    for level in sorted({k[3] for k in kept}):
        print("level %d: %d of %d" % (level, sum(k[3] == level for k in new), sum(k[3] == level for k in kept)))
    if not out:
        return
    index = [(shingles(p), p, level) for p, _, level in known]
    with open(out, "w", encoding="utf-8") as f:
        f.write("# Twenty kept tasks, unedited, each beside the nearest of %d teacher prompts\n\nDrawn at random; nearest by word trigrams (Jaccard).\n" % len(known))
        for name, prompt, verifier, level in random.Random(20).sample(kept, min(20, len(kept))):
            mine = shingles(prompt)
            like, near = max(((len(mine & s) / max(1, len(mine | s)), p) for s, p, _ in index), key=lambda a: a[0])
            f.write("\n## %s (level %d; %s skeleton)\n```\n%s\n```\nnearest (%.2f):\n```\n%s\n```\nverifier:\n```lua\n%s\n```\n" % (
                name, level, "new" if skeleton(verifier) not in seen else "known", prompt, like, near, verifier))


if __name__ == "__main__":
    main(*sys.argv[1:])
