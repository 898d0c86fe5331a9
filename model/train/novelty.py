"""How new are kept tasks? Verifier skeletons that training drew, and nearest prompts.

usage: novelty.py merge DIR OUT.bin            the marks that the workers of a run left in DIR, as one sorted file
       novelty.py show CORPUS MARKS.bin        the share of the corpus's tasks whose mark is not in the file, by level
       novelty.py nearest TABLES.json.gz CORPUS MARKS.bin SECONDS OUT.md
               OUT.md gets 20 random tasks unedited, each beside the nearest prompt of tasks that the teacher writes meanwhile

A skeleton is a verifier without names, texts and literals. Its mark is the first five
bytes of the skeleton's SHA-256. `agon synth` prints the share at its end, where the model's folder has
skeletons.bin (verifiers/skeleton.c; tests/train holds the two against each other).
"""
import glob
import hashlib
import json
import os
import random
import re
import sys
import time

MARK = 5
WHITE = " \t\n\r\f\v"
SQL_WORDS = set("""SELECT FROM WHERE ORDER BY DESC ASC LIMIT OFFSET COUNT SUM ROUND AVG MAX MIN LENGTH DISTINCT AND OR IS NOT NULL LIKE
GROUP IN COALESCE AS JOIN ON HAVING BETWEEN CASE WHEN THEN ELSE END UNION ALL EXISTS SUBSTR ABS""".split())
LEXEME = re.compile(r'\[\[.*?\]\]|"(?:[^"\\\n]|\\.)*"|[A-Za-z_]\w*|\d+(?:\.\d+)?|\s+|.', re.S | re.A)
SQL_LEXEME = re.compile(r"'[^']*'|[A-Za-z_]\w*|\d+(?:\.\d+)?|\s+|.", re.S | re.A)


def sql_skeleton(sql):
    out = []
    for m in SQL_LEXEME.finditer(sql):
        w = m.group()
        out.append("v" if w[0] == "'" and len(w) > 1 or "0" <= w[0] <= "9" else " " if w[0] in WHITE else
                   (w if w in SQL_WORDS else "x") if re.match(r"[A-Za-z_]", w) else w)
    return "".join(out)


def skeleton(verifier):
    """Long brackets become T, strings v (SQL: identifiers x), numbers v, fields .x, white space one blank."""
    out, text = [], ""  # text: the end of what is out
    for m in LEXEME.finditer(verifier.strip(WHITE)):
        w = m.group()
        if w.startswith("[[") and w.endswith("]]"):
            w = "T"
        elif w[0] == '"' and len(w) > 1:
            w = sql_skeleton(w[1:-1]) if re.search(r"world:\w+\($", text, re.A) else "v"
        elif "0" <= w[0] <= "9":
            w = "v"
        elif w[0] in WHITE:
            w = " "
        elif re.match(r"[A-Za-z_]", w) and text.endswith("."):
            w = "x"
        out.append(w)
        text = (text + w)[-80:]
    return "".join(out)


def mark(verifier):
    return hashlib.sha256(skeleton(verifier).encode()).digest()[:MARK]


def read_marks(path):
    raw = open(path, "rb").read()
    return {raw[i:i + MARK] for i in range(0, len(raw), MARK)}


def merge(directory, out):
    marks = set()
    for path in glob.glob(os.path.join(directory, "*.bin")):
        marks |= read_marks(path)
    with open(out, "wb") as f:
        f.write(b"".join(sorted(m for m in marks if len(m) == MARK)))
    return len(marks)


def teacher(path, seconds):
    import checks
    import tasks
    import toolset
    import world as Wd
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
                out.append((t.prompt(), t.level))
                if t.level >= top:
                    break
                t = tasks.next_level(r, t, x)
    return out


def shingles(text):
    w = re.findall(r"\w+", text.lower())
    return {tuple(w[i:i + 3]) for i in range(len(w) - 2)}


def kept_tasks(corpus):
    out = []
    for path in sorted(glob.glob(os.path.join(corpus, "environments", "*", "tasks", "*"))):
        read = lambda n: open(os.path.join(path, n), encoding="utf-8").read().strip()
        out.append((path.split(os.sep)[-3] + "/" + os.path.basename(path), read("prompt.md"), read("verifier.lua"), json.loads(read("task.json"))["level"]))
    if not out:
        raise SystemExit("novelty: %s holds no task" % corpus)
    return out


def show(corpus, marks):
    kept, known = kept_tasks(corpus), read_marks(marks)
    new = [k for k in kept if mark(k[2]) not in known]
    print("%d marks; %d of %d kept tasks have another (%.0f%%)" % (len(known), len(new), len(kept), 100 * len(new) / len(kept)))
    for level in sorted({k[3] for k in kept}):
        print("level %d: %d of %d" % (level, sum(k[3] == level for k in new), sum(k[3] == level for k in kept)))


def nearest(tables, corpus, marks, seconds, out):
    kept, known, index = kept_tasks(corpus), read_marks(marks), [(shingles(p), p) for p, _ in teacher(tables, float(seconds))]
    with open(out, "w", encoding="utf-8") as f:
        f.write("# Twenty kept tasks, unedited, each beside the nearest of %d teacher prompts\n\nDrawn at random; nearest by word trigrams (Jaccard).\n" % len(index))
        for name, prompt, verifier, level in random.Random(20).sample(kept, min(20, len(kept))):
            mine = shingles(prompt)
            like, near = max(((len(mine & s) / max(1, len(mine | s)), p) for s, p in index), key=lambda a: a[0])
            f.write("\n## %s (level %d; %s skeleton)\n```\n%s\n```\nnearest (%.2f):\n```\n%s\n```\nverifier:\n```lua\n%s\n```\n" % (
                name, level, "known" if mark(verifier) in known else "new", prompt, like, near, verifier))


if __name__ == "__main__":
    {"merge": merge, "show": show, "nearest": nearest}[sys.argv[1]](*sys.argv[2:])
