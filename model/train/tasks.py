"""Tasks: a few leaves under one prompt, and the ladder from one level to the next."""
import copy

import checks
import wordings
from toolset import dumps

GUESS = {1: 0.05, 2: 0.01}          # DESIGN.md, gate 9
GUESS_ABOVE = 0.001
LUA_KEYWORDS = set("and break do else elseif end false for function goto if in local nil not or repeat return then true until while "
                   "tools world answer changes same near null rows row want ipairs pairs".split())


def guess_limit(level):
    return GUESS.get(level, GUESS_ABOVE)


class Task:
    def __init__(self, r, x, held_words=False):
        self.x, self.leaves, self.level = x, [], 1
        self.intro = wordings.choose(r, wordings.INTROS, wordings.INTROS_HELD, held_words).format(T=x.world.tables[0].name)
        self.line = wordings.choose(r, wordings.LINES, wordings.LINES_HELD, held_words)
        self.held_words = held_words

    def copy(self):
        t = object.__new__(Task)
        t.__dict__.update(self.__dict__)
        t.leaves = list(self.leaves)
        return t

    def reworded(self, r, held_words=False):
        """The same task as someone else would word it: what a solver may meet, though no author here writes it."""
        t = self.copy()
        t.intro = wordings.choose(r, wordings.INTROS, wordings.INTROS_HELD, held_words).format(T=t.x.world.tables[0].name)
        t.line = wordings.choose(r, wordings.LINES, wordings.LINES_HELD, held_words)
        t.leaves = [copy.copy(l) for l in t.leaves]
        for l in t.leaves:
            l.text = wordings.sentence(r, l.kind, l.slots, held_words, solver=True)
        return t

    def add(self, r, held_pairs=False, weak=False, accept=None):
        """One more leaf that accept() takes; False if none was found. The first must be able to stand alone, unless weak."""
        leaf = checks.sample_leaf(self.x, self.leaves, held_pairs, accept=accept if self.leaves or weak else checks.Leaf.carries)
        if not leaf:
            return False
        used = {l.name for l in self.leaves} | LUA_KEYWORDS
        name = base = r.choice(leaf.names)[:40].rstrip("_")
        k = 2
        while name in used:
            name, k = "%s_%s" % (base, "abcdefghij"[k - 1]), k + 1
        leaf.name = name
        leaf.text = wordings.sentence(r, leaf.kind, leaf.slots, self.held_words)
        self.leaves.append(leaf)
        return True

    def guess(self):
        """Estimate of gate 9's rate: a random answer's chance."""
        read, world = set(), self.x.world
        for leaf in self.leaves:
            read |= leaf.columns()
        cols = [next(t for t in world.tables if t.name == a)[b] for a, b in read]
        n = max([t.n for t in world.tables if any(a == t.name for a, _ in read)] + [1])
        p = 1.0
        for leaf in self.leaves:
            for v in leaf.value if isinstance(leaf.value, list) else [leaf.value]:
                have = [c for c in cols if v in c.counts and isinstance(v, str) == (c.type == "TEXT")]
                if have:
                    p /= len({w for c in have for w in c.counts})
                elif isinstance(v, int):
                    p /= max(2 * abs(v), n) + 1
                elif isinstance(v, float):
                    d = len(repr(v).split(".")[1]) if "e" not in repr(v) else 2
                    p *= 1 / (2 * abs(v) * 10 ** min(d, 2) + 1)
                else:
                    p *= 0.1
        return p

    def prompt(self):
        return self.intro + "\n" + "\n".join(self.line.format(name=l.name, text=l.text) for l in self.leaves)

    def schema(self):
        return {"type": "object", "properties": {l.name: l.schema() for l in self.leaves}, "required": [l.name for l in self.leaves]}

    def solution(self):
        return ("return function(tools)\n" + "".join(l.solution() for l in self.leaves)
                + "  return {%s}\nend" % ", ".join("%s = %s" % (l.name, l.name) for l in self.leaves))

    def verifier(self):
        return "".join(l.verifier() for l in self.leaves).rstrip("\n")

    def answer(self):
        return {l.name: l.value for l in self.leaves}

    def below_text(self):
        return "The task of level %d:\nprompt: %s\nanswer_schema: %s\nsolution:\n%s\nverifier:\n%s\n" % (
            self.level, self.prompt(), dumps(self.schema()), self.solution(), self.verifier())

    def arguments(self):
        return {"prompt": self.prompt(), "answer_schema": self.schema(), "solution": self.solution(), "verifier": self.verifier()}


def first_level(r, x, held_words=False, held_pairs=False, level=1):
    """A task whose guess rate is low enough for its level; None if the world gives none.

    It asks one thing more than its level says, and one of them takes more than reading one result: what a single
    call answers is solved every time, and a task that is always solved teaches its solver nothing.
    """
    for attempt in range(6):
        t = Task(r, x, held_words)
        t.level = level
        while len(t.leaves) < level + 3:
            plain = attempt < 4 and not any(leaf.works() for leaf in t.leaves)
            if not t.add(r, held_pairs if t.leaves else False, accept=checks.Leaf.works if plain and len(t.leaves) == level else None):
                break
            if len(t.leaves) > level and t.guess() <= 0.7 * guess_limit(level):
                return t
    return None


def next_level(r, below, x, held_pairs=False):
    """The level above, as another stage sees the world (x): one more leaf, two if guessing would still be easy."""
    for _ in range(4):
        t = below.copy()
        t.level, t.x = below.level + 1, x
        for _ in range(2):
            if not t.add(r, held_pairs):
                return None
            if t.guess() <= 0.7 * guess_limit(t.level):
                return t
    return None
