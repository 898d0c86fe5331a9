"""Worlds: tables of typed columns, in SQLite and as the text that a prompt shows.

The text is the driver's (synth/PROTOCOL.md, slot `world`), byte for byte; only
the choice of samples is ours. Tables are pseudo (words.py) or real ones read
from a sample file (tables.json.gz, made by realtables.py).
"""
import gzip
import json
import sqlite3

import words as W

ENUM_MAX = 6      # distinct values that a column's line lists
TEXT_MAX = 40     # characters of a value in a prompt


def shown(v):
    """A value as prompts show it."""
    if v is None:
        return "null"
    if isinstance(v, str):
        v = "".join(" " if c < " " or c == "\x7f" else c for c in v)
        return v if len(v) <= TEXT_MAX else v[:TEXT_MAX] + "…"
    return repr(v)


def sort_key(v):
    return v.encode() if isinstance(v, str) else v


class Column:
    """Name, type, values; what a prompt says of it is computed once."""

    def __init__(self, name, kind, values, role=""):
        self.name, self.type, self.values, self.role = name, kind, values, role
        counts = {}
        for v in values:
            if v is not None:
                counts[v] = counts.get(v, 0) + 1
        self.counts = counts
        self.missing = len(values) - sum(counts.values())
        self.n = len(counts)
        self.json = {"TEXT": "string", "INTEGER": "integer", "REAL": "number"}[kind]

    def plain(self, v):
        """Can v stand in a prompt, in Lua and in JSON without escapes or cuts?"""
        return not isinstance(v, str) or (0 < len(v) <= TEXT_MAX and v == v.strip() and v.isprintable()
                                          and not set(v) & set('"\\[]'))


class Table:
    def __init__(self, name, columns, key):
        self.name, self.columns, self.key = name, columns, key
        self.by_name = {c.name: c for c in columns}
        self.n = len(columns[0].values)
        self.parent = None  # (column, table) of a reference into another table

    def __getitem__(self, name):
        return self.by_name[name]

    def rows(self):
        return list(zip(*[c.values for c in self.columns]))


class World:
    def __init__(self, category, tables):
        self.category, self.tables = category, tables
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for t in tables:
            cols = ", ".join("%s %s%s" % (c.name, c.type, " NOT NULL PRIMARY KEY" if c.name == t.key and c.name != "row_id"
                                          else " PRIMARY KEY" if c.name == t.key else "") for c in t.columns)
            self.db.execute("CREATE TABLE %s (%s) STRICT" % (t.name, cols))
            self.db.executemany("INSERT INTO %s VALUES (%s)" % (t.name, ", ".join("?" * len(t.columns))), t.rows())

    def rows(self, sql, args=()):
        cur = self.db.execute(sql, args)
        names = [d[0] for d in cur.description]
        return [dict(zip(names, row)) for row in cur.fetchall()]

    def value(self, sql, args=()):
        row = self.db.execute(sql, args).fetchone()
        return row[0] if row else None


class View:
    """A world as one prompt shows it: the text, and the values that stand in it."""

    def __init__(self, r, world):
        self.world, out = world, []
        self.sample_rows = {}   # table -> rows (tuples) that are shown
        self.likes = {}         # (table, column) -> values shown
        for t in world.tables:
            out.append("table %s: %d row%s, key %s\n" % (t.name, t.n, "" if t.n == 1 else "s", t.key))
            for c in t.columns:
                out.append(self._column(r, t, c))
            rows = t.rows()
            k = [c.name for c in t.columns].index(t.key)
            pick = sorted(r.sample(rows, min(3, len(rows))), key=lambda x: sort_key(x[k]))
            self.sample_rows[t.name] = pick
            out.append("rows:\n" + "".join(" | ".join(shown(v) for v in row) + "\n" for row in pick))
        self.text = "".join(out)

    def _column(self, r, t, c):
        head = "- %s %s: %d value%s" % (c.name, c.type, c.n, "" if c.n == 1 else "s")
        tail = ", %d missing" % c.missing if c.missing else ""
        if c.n <= ENUM_MAX:
            vs = sorted(c.counts, key=lambda v: (-c.counts[v], sort_key(v)))
            self.likes[t.name, c.name] = vs
            return head + ": " + ", ".join("%s (%d)" % (shown(v), c.counts[v]) for v in vs) + tail + "\n"
        if c.type == "TEXT":
            vs = sorted(r.sample(sorted(c.counts), 3), key=sort_key)
            self.likes[t.name, c.name] = vs
            return head + ", like " + ", ".join(shown(v) for v in vs) + tail + "\n"
        self.likes[t.name, c.name] = []
        return head + ", %s to %s" % (shown(min(c.counts)), shown(max(c.counts))) + tail + "\n"


# ---- pseudo tables

def _with_missing(r, values):
    if r.random() < 0.8:
        return values
    p = r.choice((0.02, 0.05, 0.15, 0.4))
    return [None if r.random() < p else v for v in values]


def _unique(r, make, n):
    seen, out = set(), []
    for _ in range(n * 30):
        v = make()
        if v not in seen:
            seen.add(v)
            out.append(v)
            if len(out) == n:
                return out
    i = 0
    while len(out) < n:
        i += 1
        v = str(out[i % len(out)]) + " %d" % i
        if v not in seen:
            seen.add(v)
            out.append(v)
    return out


def _skewed(r, values, n):
    k = len(values)
    weights = [1.0 / (1 + i) ** r.choice((0.0, 0.5, 1.0)) for i in range(k)] if r.random() < 0.5 else [r.random() + 0.1 for _ in range(k)]
    return r.choices(values, weights, k=n)


def numbers(r, n, real=None):
    """(type, values): prices, years, ages, populations, rates, temperatures."""
    real = r.random() < 0.35 if real is None else real
    if real:
        lo, hi = r.choice(((0, 1), (0, 10), (10, 60), (0, 100), (-20, 40), (0, 1000), (1, 5)))
        d = r.choice((1, 1, 2, 2, 3, 4) if hi < 100 else (1, 1, 2))
        return "REAL", [round(r.uniform(lo, hi), d) for _ in range(n)]
    u = r.random()
    if u < 0.15:
        lo = r.choice((1900, 1950, 1990, 1800))
        return "INTEGER", [r.randint(lo, 2024) for _ in range(n)]
    if u < 0.3:
        m = r.choice((4, 5, 6, 7, 8))
        return "INTEGER", [int(10 ** r.uniform(m - 3, m)) for _ in range(n)]
    lo, hi = r.choice(((0, 9), (1, 20), (0, 60), (10, 99), (18, 90), (100, 999), (50, 400), (0, 5000), (-30, 40), (1000, 65535)))
    q = r.choice((1, 1, 1, 1, 5, 10)) if hi > 90 else 1
    return "INTEGER", [r.randint(lo, hi) // q * q for _ in range(n)]


def categories(r, n):
    k = r.choice((2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 14, 20))
    k = max(2, min(k, n // 3))
    if r.random() < 0.25:
        lo = r.choice((0, 0, 1, 1, 2, 3, 10, 1990))
        return "INTEGER", _skewed(r, list(range(lo, lo + k)), n)
    if r.random() < 0.25:
        make = W.code_maker(r)
    elif r.random() < 0.5:
        make = lambda: W.proper(r) if r.random() < 0.5 else W.word(r)
    else:
        make = lambda: r.choice(W.VALUE) if r.random() < 0.6 else W.word(r)
    values = _unique(r, make, k)
    if r.random() < 0.2:  # values that begin or end alike, as places do: Silver Creek, Silver Creek Spring, Leach Creek
        part = make()
        values = _unique(r, lambda: r.choice((r.choice(values), r.choice(values) + " " + part, part + " " + r.choice(values))), k)
    return "TEXT", _skewed(r, values, n)


def dates(r, n):
    lo = r.choice((1950, 1990, 2010, 2020))
    span = r.choice((1, 5, 30))
    return ["%04d-%02d-%02d" % (r.randint(lo, lo + span), r.randint(1, 12), r.randint(1, 28)) for _ in range(n)]


def pseudo_table(r, parent=None, name=None, used=None):
    u = r.random()
    n = r.randint(8, 40) if u < 0.4 else r.randint(40, 200) if u < 0.82 else r.randint(200, 900)
    used = used if used is not None else set()
    name = name or W.ident(r, W.SEED, used)
    if r.random() < 0.35 and not name.endswith(("s", "_")):
        name += "s"
    cu, cols = {name}, []
    add = lambda base, kind, values, role: cols.append(Column(W.ident(r, base, cu), kind, values, role))
    heavy = r.random() < 0.4  # mostly text, as registries and code lists are
    u = r.random()
    if u < 0.55:
        make = W.code_maker(r) if r.random() < (0.6 if heavy else 0.25) else lambda: W.proper(r)
        add(W.CODECOL if heavy else W.NAMECOL, "TEXT", _unique(r, make, n), "key")
    elif u < 0.85:
        s = r.choice((1, 1, 1, 0, 101, 1000))
        cols.append(Column(r.choice(("rownames", "rownames", "id", "no_", "nr", "obs", "x")), "INTEGER", list(range(s, s + n)), "key"))
        cu.add(cols[0].name)
    if r.random() < (0.8 if heavy else 0.4):
        make = lambda: W.proper(r, 0.25 if heavy else 0.1)
        vs = _unique(r, make, n) if r.random() < 0.6 else [make() for _ in range(n)]
        add(W.NAMECOL, "TEXT", vs, "name")
    for _ in range(r.choice((1, 1, 2) if heavy else (1, 1, 2, 2, 3))):
        kind, vs = categories(r, n)
        add(W.CATEGORY, kind, _with_missing(r, vs), "cat")
    for _ in range(r.choice((0, 0, 1, 1) if heavy else (1, 2, 2, 3, 3, 4))):
        kind, vs = numbers(r, n)
        add(W.NUMBER, kind, _with_missing(r, vs), "num")
    if heavy:
        for _ in range(r.choice((0, 1, 1, 2))):
            u = r.random()
            if u < 0.3:
                vs = [W.sentence(r) for _ in range(n)]
            elif u < 0.7:
                make = W.code_maker(r)
                vs = [make() for _ in range(n)] if r.random() < 0.5 else _unique(r, make, n)
            else:
                vs = [W.proper(r, 0.3) for _ in range(n)]
            add(W.NAMECOL + W.CODECOL, "TEXT", _with_missing(r, vs), "text")
    if r.random() < 0.15:
        add(["date_seen", "day_of", "opened", "start_date", "since", "updated", "born"], "TEXT", dates(r, n), "date")
    if parent:
        ks = parent[parent.key].values
        ks = r.sample(ks, max(2, min(len(ks), r.choice((4, 8, 20)))))
        cols.append(Column(parent.key if parent.key not in cu | {"row_id"} and r.random() < 0.5 else
                           W.ident(r, [parent.name[:16] + "_" + parent.key[:7]], cu), parent[parent.key].type, r.choices(ks, k=n), "ref"))
    first = cols[:1] if cols[0].role == "key" else []
    rest = cols[len(first):]
    if r.random() < 0.5:
        r.shuffle(rest)
    t = finish(name, first + rest)
    if parent:
        t.parent = (next(c for c in t.columns if c.role == "ref"), parent)
    return t


def finish(name, cols):
    """What import_table does: the first column that is unique, complete and not REAL is the key, else row_id."""
    n = len(cols[0].values)
    for c in cols:
        if c.type != "REAL" and c.n == n:
            return Table(name, cols, c.name)
    return Table(name, [Column("row_id", "INTEGER", list(range(1, n + 1)), "key")] + cols, "row_id")


# ---- real tables

class Real:
    """Sampled real tables: [{"name","title","package","columns":[[name,type,values]...]}]."""

    def __init__(self, path):
        with gzip.open(path, "rt") as f:
            self.tables = json.load(f)

    def table(self, r, meta=None):
        d = meta or r.choice(self.tables)
        cols = [Column(*c) for c in d["columns"]]
        if len(cols) > 5 and r.random() < 0.75:  # an author keeps useful columns only
            keep = set(r.sample(range(1, len(cols)), r.randint(3, min(7, len(cols) - 1)))) | {0}
            cols = [c for i, c in enumerate(cols) if i in keep]
        n = len(cols[0].values)
        if n > 30 and r.random() < 0.4:
            lo = r.randint(0, n - 20)
            hi = r.randint(lo + 15, n)
            cols = [Column(c.name, c.type, c.values[lo:hi]) for c in cols]
        cols = [c for c in cols if c.n > 0]
        cols = [c for c in cols if c.name != "row_id"]
        name = d["name"] if r.random() < 0.7 else W.ident(r, W.SEED, set())
        return finish(name, cols) if len(cols) > 1 else None


def make_world(r, real=None):
    """A world of one to three tables; its category."""
    used = set()
    u = r.random()
    if real and u < 0.45:
        t = None
        while t is None or t.n < 6:
            t = real.table(r)
        tables = [t]
    else:
        tables = [pseudo_table(r, used=used)]
        u = r.random()
        if u < 0.22:
            tables.append(pseudo_table(r, parent=tables[0], used=used))
        elif u < 0.27:
            tables.append(pseudo_table(r, used=used))
    if len(tables) == 2 and tables[0].name == tables[1].name:
        tables = tables[:1]
    return World(_category(r, tables[0].name), tables)


def _category(r, name):
    """What a world is said to be about; often the name of its table stands in it, or a title with that name behind it."""
    if r.random() < 0.3:
        camel = "".join(x.capitalize() for x in name.split("_"))
        return "%s (%s)" % (W.title(r)[0] if r.random() < 0.7 else name.replace("_", " ").title(), r.choice((name, name, name.replace("_", "."), name.capitalize(), camel)))
    words = [W.word(r) if r.random() < 0.5 else r.choice(W.SEED) for _ in range(r.choice((1, 1, 2)))]
    base = name.replace("_", " ").strip() if r.random() < 0.6 else " ".join(words)
    return base if r.random() < 0.3 else r.choice(("%s planning", "%s data", "records of %s", "%s and statistics", "%s registry",
                                                   "facts on %s", "%s survey", "choose among %s", "study of %s", "%s in numbers")) % base
