"""Toolsets: families of tools over a world, as the Lua that an author writes.

A tool is one SQL statement with bound arguments behind a JSON-schema signature.
Tool.call() runs the same statement in Python, so transcripts hold what the real
runtime returns (canonical JSON, synth/PROTOCOL.md).
"""
import json

LABEL_SHARE = 0.6  # a TEXT column with so many distinct values names its rows


def dumps(v):
    return json.dumps(v, ensure_ascii=False)


class Roles:
    """What the columns of a table are good for."""

    def __init__(self, t):
        self.t, self.key = t, t[t.key]
        cs = [c for c in t.columns if c is not self.key]
        self.cats = [c for c in cs if 2 <= c.n <= max(2, min(40, t.n * 0.6)) and c.type != "REAL" and max(c.counts.values()) > 1
                     and c.role != "date" and all(len(str(v)) <= 40 for v in c.counts)]
        self.nums = [c for c in cs if c.type != "TEXT" and c.n >= 6]
        self.dates = [c for c in cs if c.type == "TEXT" and c.n >= 5 and all(len(v) == 10 and v[4] == v[7] == "-" for v in c.counts)]
        self.ordered = self.nums + self.dates
        names = [c for c in cs if c.type == "TEXT" and c not in self.dates and c.n >= max(4, t.n * LABEL_SHARE)
                 and sum(map(len, c.counts)) / c.n <= 40]
        if self.key.type == "TEXT":
            names = [self.key] + names
        self.names = names
        self.label = names[0] if names else self.key  # what an answer calls a row
        self.missing = [c for c in cs if c.missing]


class Tool:
    """family, table, and the columns it is about; name, signature, Lua; and call()."""

    def __init__(self, family, t, name, desc, mode, sql, args=(), bind=(), **about):
        self.family, self.t, self.name, self.desc, self.mode, self.sql = family, t, name, desc, mode, sql
        self.args = list(args)          # [(name, JSON type)]
        self.bind = list(bind) or [a for a, _ in args]
        self.about = about              # C, N, dir, cols, ...
        self.returns = {"rows": "array of object", "row": "object"}.get(mode) or about["returns"]

    def line(self):
        return "- %s(%s) -> %s: %s\n" % (self.name, ", ".join("%s: %s" % a for a in self.args), self.returns, self.desc)

    def signature(self):
        return "%s(%s) -> %s" % (self.name, ", ".join("%s: %s" % a for a in self.args), self.returns)

    def params(self):
        p = {"type": "object", "properties": {a: {"type": k} for a, k in self.args}}
        if self.args:
            p["required"] = [a for a, _ in self.args]
        return p

    def returns_schema(self):
        return {"rows": {"type": "array", "items": {"type": "object"}}, "row": {"type": "object"}}.get(self.mode) or {"type": self.returns}

    def function(self):
        return {"name": self.name, "description": self.desc, "parameters": self.params()}

    def lua(self):
        call = "".join(", a." + b for b in self.bind)
        return ('tool{ name = "%s", description = "%s", params = [[%s]], returns = [[%s]], run = function(world, a)\n'
                '  return world:%s("%s"%s)\nend }' % (self.name, self.desc, dumps(self.params()), dumps(self.returns_schema()),
                                                      self.mode, self.sql, call))

    def call(self, world, args):
        """The value that the tool returns; None for nil."""
        rows = world.rows(self.sql, [args[b] for b in self.bind])
        if self.mode == "rows":
            return rows
        if self.mode == "row":
            return rows[0] if rows else None
        return world.value(self.sql, [args[b] for b in self.bind])

    def result(self, world, args):
        return render(self.call(world, args))


def render(v):
    return dumps(v)


def stem(t):
    return t.name.rstrip("_")


def make_tools(r, world, n_max=8):
    """Four to eight tools that let a user list, look up, filter, count and rank."""
    out, used = [], set()

    def add(family, t, names, descs, mode, sql, args=(), bind=(), **about):
        for name in r.sample(names, len(names)):
            if name not in used and len(name) <= 60:
                used.add(name)
                out.append(Tool(family, t, name, r.choice(descs), mode, sql, args, bind, **about))
                return

    budget = r.choice((4, 5, 5, 6, 6, 7, 8))
    main = Roles(world.tables[0])
    plan = _plan(r, main)
    if len(world.tables) > 1:
        second = Roles(world.tables[1])
        more = _plan(r, second)
        plan = plan[:max(3, budget - 3)] + _join(r, second) + more
    seen = set()
    for family, roles, pick in plan:
        if len(out) >= budget:
            break
        key = (family, roles.t.name) + tuple(getattr(p, "name", p) for p in pick)
        if key not in seen:
            seen.add(key)
            FAMILIES[family](r, add, roles, *pick)
    return out


def _plan(r, q):
    """Families in the order in which they are wanted, for one table."""
    head, tail = [("get", q, ())], []
    cats = r.sample(q.cats, min(len(q.cats), 3))
    nums = r.sample(q.ordered, min(len(q.ordered), 3))
    names = r.sample(q.names, min(len(q.names), 2))
    for i, c in enumerate(cats):
        kinds = ["count", "list", "groups"]
        r.shuffle(kinds)
        (head if i == 0 else tail).extend([(kinds[0], q, (c,))])
        tail.append((kinds[1], q, (c,)))
    for i, c in enumerate(nums):
        up = r.random() < 0.7
        a = [(r.choice(("top", "top", "nth")), q, (c, up))]
        if cats and cats[0] is not c and r.random() < 0.35:
            a = [("topin", q, (c, cats[0], up))]
        if c in q.nums:
            groups = [g for g in cats if g is not c]
            g = r.choice(groups) if groups and r.random() < 0.75 else None
            a.append((r.choice(("agg", "agg", "stat")), q, (c, g)))
        u = r.random()
        if u < 0.3:
            a.append(("countrange", q, (c,)))
        elif u < 0.45:
            a.append(("rank", q, (c,)))
        elif u < 0.55:
            a.append(("top", q, (c, not up)))
        (head if i == 0 else tail).extend(a[:2])
        tail.extend(a[2:])
    for i, c in enumerate(names):
        kinds = ["prefixcount", "prefix", "longest", "alphabet"]
        r.shuffle(kinds)
        (head if i == 0 and (len(nums) < 2 or r.random() < 0.4) else tail).append((kinds[0], q, (c,)))
        tail.append((kinds[1], q, (c,)))
        if not nums:
            head.append((kinds[2], q, (c,)))
        if c is not q.key or r.random() < 0.15:
            tail.append(("find", q, (c,)))
    if len(cats) > 1:
        tail.append(("count2", q, (cats[0], cats[1])))
        tail.append(("distinct", q, (cats[0], cats[1])))
    if q.missing:
        tail.append(("missing", q, (r.choice(q.missing),)))
    r.shuffle(tail)
    if r.random() < 0.3:
        r.shuffle(head)
    return head + tail


def _join(r, q):
    if not q.t.parent:
        return []
    ref, parent = q.t.parent
    p = Roles(parent)
    a = [(r.choice(("count", "list")), q, (ref,))]
    if p.cats:
        a.append(("joincount", q, (ref, p, r.choice(p.cats))))
    others = [c for c in parent.columns if c.name != parent.key]
    if others:
        a.append(("joinattr", q, (ref, p, r.choice(others))))
    r.shuffle(a)
    return a


def _cols(r, q, first, most):
    """Columns that a row shows: key, label, what it is about, and a few more."""
    keep = [q.key.name] + ([q.label.name] if q.label is not q.key and (most > 2 or r.random() < 0.5) else [])
    keep += [c.name for c in first if c.name not in keep]
    rest = [c.name for c in q.t.columns if c.name not in keep]
    r.shuffle(rest)
    keep += rest[:max(0, most - len(keep))]
    order = [c.name for c in q.t.columns]
    return sorted(keep, key=order.index)


def _get(r, add, q):
    t, k = q.t, q.key
    cols = _cols(r, q, [], r.choice((4, 5, 6, 7)))
    s = ", ".join(cols)
    add("get", t, ["get_" + stem(t), stem(t) + "_row", "look_up_" + stem(t), "read_" + stem(t), stem(t) + "_by_" + k.name],
        ["The row of %s with this %s: %s." % (t.name, k.name, s), "%s of the %s with this %s." % (s, t.name, k.name)],
        "row", "SELECT %s FROM %s WHERE %s = ?" % (s, t.name, k.name), [(k.name, k.json)], cols=cols)


def _find(r, add, q, c):
    t = q.t
    cols = _cols(r, q, [c], 4)
    s = ", ".join(cols)
    add("find", t, ["find_%s_by_%s" % (stem(t), c.name), "%s_with_%s" % (stem(t), c.name)],
        ["Rows of %s with this %s: %s, by %s." % (t.name, c.name, s, q.key.name)],
        "rows", "SELECT %s FROM %s WHERE %s = ? ORDER BY %s" % (s, t.name, c.name, q.key.name), [(c.name, c.json)], cols=cols, C=c)


def _list(r, add, q, c):
    t, k = q.t, q.key.name
    extra = [x for x in q.ordered if x is not c]
    cols = [x for x in _cols(r, q, r.sample(extra, min(len(extra), r.choice((0, 1, 1)))), 2) if x != c.name]
    s = ", ".join(cols)
    add("list", t, ["list_%s_by_%s" % (stem(t), c.name), "%s_of_%s" % (stem(t), c.name), "all_%s_with_%s" % (stem(t), c.name)],
        ["Rows of %s with this %s: %s, by %s." % (t.name, c.name, s, k), "%s of all %s whose %s is this, by %s." % (s, t.name, c.name, k)],
        "rows", "SELECT %s FROM %s WHERE %s = ? ORDER BY %s" % (s, t.name, c.name, k), [(c.name, c.json)], cols=cols, C=c)


def _count(r, add, q, c):
    t = q.t
    add("count", t, ["count_%s_by_%s" % (stem(t), c.name), "count_" + c.name, "number_of_%s_with_%s" % (stem(t), c.name)],
        ["Number of %s with this %s." % (t.name, c.name), "How many rows of %s have this %s." % (t.name, c.name)],
        "value", "SELECT COUNT(*) FROM %s WHERE %s = ?" % (t.name, c.name), [(c.name, c.json)], returns="integer", C=c)


def _count2(r, add, q, c, d):
    t = q.t
    add("count2", t, ["count_%s_by_%s_and_%s" % (stem(t), c.name, d.name), "count_both_" + stem(t)],
        ["Number of %s with this %s and this %s." % (t.name, c.name, d.name)],
        "value", "SELECT COUNT(*) FROM %s WHERE %s = ? AND %s = ?" % (t.name, c.name, d.name),
        [(c.name, c.json), (d.name, d.json)], returns="integer", C=c, D=d)


def _top(r, add, q, c, up):
    t, k = q.t, q.key.name
    cols = _cols(r, q, [c], 2)
    s = ", ".join(cols)
    where = "" if up else " WHERE %s IS NOT NULL" % c.name
    add("top", t, ["%s_%s_by_%s" % (a, stem(t), c.name) for a in (("top", "highest", "largest") if up else ("lowest", "bottom", "smallest"))],
        ["The n rows of %s with the %s %s: %s." % (t.name, "highest" if up else "lowest", c.name, s),
         "First n of %s by %s, %s first: %s." % (t.name, c.name, "highest" if up else "lowest", s)],
        "rows", "SELECT %s FROM %s%s ORDER BY %s%s, %s LIMIT ?" % (s, t.name, where, c.name, " DESC" if up else "", k),
        [("n", "integer")], cols=cols, N=c, up=up)


def _topin(r, add, q, c, g, up):
    t, k = q.t, q.key.name
    cols = [x for x in _cols(r, q, [c], 2) if x != g.name]
    s = ", ".join(cols)
    add("topin", t, ["%s_%s_by_%s_in_%s" % (a, stem(t), c.name, g.name) for a in (("top", "highest") if up else ("lowest", "bottom"))],
        ["The n rows of %s with this %s that have the %s %s: %s." % (t.name, g.name, "highest" if up else "lowest", c.name, s)],
        "rows", "SELECT %s FROM %s WHERE %s = ?%s ORDER BY %s%s, %s LIMIT ?" % (
            s, t.name, g.name, "" if up else " AND %s IS NOT NULL" % c.name, c.name, " DESC" if up else "", k),
        [(g.name, g.json), ("n", "integer")], cols=cols, N=c, C=g, up=up)


def _nth(r, add, q, c, up):
    t, k = q.t, q.key.name
    cols = _cols(r, q, [c], 2)
    s = ", ".join(cols)
    where = "" if up else " WHERE %s IS NOT NULL" % c.name
    add("nth", t, ["nth_%s_by_%s" % (stem(t), c.name), "%s_at_place_by_%s" % (stem(t), c.name)],
        ["The row of %s at this place by %s, %s first: %s." % (t.name, c.name, "highest" if up else "lowest", s)],
        "row", "SELECT %s FROM %s%s ORDER BY %s%s, %s LIMIT 1 OFFSET ? - 1" % (s, t.name, where, c.name, " DESC" if up else "", k),
        [("place", "integer")], cols=cols, N=c, up=up)


AGG = {"total": ("ROUND(SUM(%s), 2)", "SUM(%s)", "Sum"), "mean": ("ROUND(AVG(%s), 2)",) * 2 + ("Mean",),
       "highest": ("MAX(%s)",) * 2 + ("Highest",), "lowest": ("MIN(%s)",) * 2 + ("Lowest",)}


def agg_sql(f, c):
    return AGG[f][0 if c.type == "REAL" else 1] % c.name


def agg_type(f, c):
    return "number" if f == "mean" or c.type == "REAL" else "integer"


def _agg(r, add, q, c, g):
    t = q.t
    f = r.choice(("total", "mean", "mean", "highest", "lowest") if g else ("total", "mean"))
    rounded = " rounded to 2 decimals" if f == "mean" or (f == "total" and c.type == "REAL") else ""
    where, args = (" WHERE %s = ?" % g.name, [(g.name, g.json)]) if g else ("", [])
    tail = "_by_" + g.name if g else ""
    over = "%s with this %s" % (t.name, g.name) if g else "all " + t.name
    add("agg", t, ["%s_%s%s" % (f, c.name, tail), "%s_%s_of_%s%s" % (f, c.name, stem(t), tail)],
        ["%s of %s over %s%s." % (AGG[f][2], c.name, over, rounded)],
        "value", "SELECT %s FROM %s%s" % (agg_sql(f, c), t.name, where), args, returns=agg_type(f, c), N=c, C=g, f=f)


def _stat(r, add, q, c, g):
    t = q.t
    where, args = (" WHERE %s = ?" % g.name, [(g.name, g.json)]) if g else ("", [])
    tail = "_by_" + g.name if g else ""
    over = "%s with this %s" % (t.name, g.name) if g else "all " + t.name
    sel = ", ".join("%s AS %s" % (agg_sql(f, c), f) for f in ("total", "mean", "lowest", "highest"))
    add("stat", t, ["stats_of_%s%s" % (c.name, tail), "%s_stats%s" % (c.name, tail)],
        ["total, mean, lowest and highest %s over %s." % (c.name, over)],
        "row", "SELECT %s FROM %s%s" % (sel, t.name, where), args, N=c, C=g)


def _groups(r, add, q, c):
    t = q.t
    if c.name == "n":
        return
    add("groups", t, ["groups_of_%s" % c.name, "%s_values" % c.name, "count_%s_for_each_%s" % (stem(t), c.name)],
        ["Each %s in %s and its number n of rows, most first." % (c.name, t.name)],
        "rows", "SELECT %s, COUNT(*) AS n FROM %s WHERE %s IS NOT NULL GROUP BY %s ORDER BY n DESC, %s" % ((c.name, t.name) + (c.name,) * 3), C=c)


def _countrange(r, add, q, c):
    t, kind = q.t, c.json
    add("countrange", t, ["count_%s_by_%s_range" % (stem(t), c.name), "count_%s_between" % c.name],
        ["Number of %s with %s from low to high." % (t.name, c.name)],
        "value", "SELECT COUNT(*) FROM %s WHERE %s >= ? AND %s <= ?" % (t.name, c.name, c.name),
        [("low", kind), ("high", kind)], returns="integer", N=c)


def _rank(r, add, q, c):
    t, k = q.t, q.key
    add("rank", t, ["rank_%s_by_%s" % (stem(t), c.name), "place_of_%s_by_%s" % (stem(t), c.name)],
        ["Place of the %s with this %s by %s, highest is 1." % (t.name, k.name, c.name)],
        "value", "SELECT COUNT(*) + 1 FROM %s WHERE %s > (SELECT %s FROM %s WHERE %s = ?)" % (t.name, c.name, c.name, t.name, k.name),
        [(k.name, k.json)], returns="integer", N=c)


def _prefixcount(r, add, q, c):
    t = q.t
    add("prefixcount", t, ["count_%s_by_%s_start" % (stem(t), c.name), "count_%s_starting_with" % c.name],
        ["Number of %s whose %s begins with this text." % (t.name, c.name)],
        "value", "SELECT COUNT(*) FROM %s WHERE %s LIKE ? || '%%'" % (t.name, c.name), [("start", "string")], returns="integer", C=c)


def _prefix(r, add, q, c):
    t, k = q.t, q.key.name
    cols = _cols(r, q, [c], 1)
    s = ", ".join(cols)
    order = c.name if c.name == k else c.name + ", " + k
    add("prefix", t, ["list_%s_by_%s_start" % (stem(t), c.name), "%s_starting_with" % c.name],
        ["First n of %s whose %s begins with this text: %s, by %s." % (t.name, c.name, s, c.name)],
        "rows", "SELECT %s FROM %s WHERE %s LIKE ? || '%%' ORDER BY %s LIMIT ?" % (s, t.name, c.name, order),
        [("start", "string"), ("n", "integer")], cols=cols, C=c)


def _longest(r, add, q, c):
    t, k = q.t, q.key.name
    if "length" in t.by_name:
        return
    cols = _cols(r, q, [c], 1)
    s = ", ".join(cols)
    add("longest", t, ["longest_%s_of_%s" % (c.name, stem(t)), "%s_with_longest_%s" % (stem(t), c.name)],
        ["The n rows of %s with the longest %s and its length: %s, length." % (t.name, c.name, s)],
        "rows", "SELECT %s, LENGTH(%s) AS length FROM %s ORDER BY length DESC, %s LIMIT ?" % (s, c.name, t.name, k),
        [("n", "integer")], cols=cols, C=c)


def _alphabet(r, add, q, c):
    t, k = q.t, q.key.name
    cols = _cols(r, q, [c], 1)
    s = ", ".join(cols)
    order = c.name if c.name == k else c.name + ", " + k
    add("alphabet", t, ["%s_at_place_by_%s" % (stem(t), c.name), "nth_%s_of_%s" % (c.name, stem(t))],
        ["The row of %s at this place in the order of %s: %s." % (t.name, c.name, s)],
        "row", "SELECT %s FROM %s WHERE %s IS NOT NULL ORDER BY %s LIMIT 1 OFFSET ? - 1" % (s, t.name, c.name, order), [("place", "integer")], cols=cols, C=c)


def _missing(r, add, q, c):
    t = q.t
    add("missing", t, ["count_missing_" + c.name, "%s_without_%s" % (stem(t), c.name)],
        ["Number of %s without %s." % (t.name, c.name)],
        "value", "SELECT COUNT(*) FROM %s WHERE %s IS NULL" % (t.name, c.name), returns="integer", C=c)


def _distinct(r, add, q, c, g):
    t = q.t
    add("distinct", t, ["distinct_%s_by_%s" % (c.name, g.name), "number_of_%s_by_%s" % (c.name, g.name)],
        ["Number of different %s over %s with this %s." % (c.name, t.name, g.name)],
        "value", "SELECT COUNT(DISTINCT %s) FROM %s WHERE %s = ?" % (c.name, t.name, g.name), [(g.name, g.json)], returns="integer", C=g, D=c)


def _joincount(r, add, q, ref, p, c):
    t = q.t
    add("joincount", t, ["count_%s_by_%s_%s" % (stem(t), stem(p.t), c.name)],
        ["Number of %s whose %s has this %s." % (t.name, p.t.name, c.name)],
        "value", "SELECT COUNT(*) FROM %s b JOIN %s a ON a.%s = b.%s WHERE a.%s = ?" % (t.name, p.t.name, p.t.key, ref.name, c.name),
        [(c.name, c.json)], returns="integer", C=c, P=p, ref=ref)


def _joinattr(r, add, q, ref, p, c):
    t, k = q.t, q.key
    add("joinattr", t, ["%s_%s_of_%s" % (stem(p.t), c.name, stem(t))],
        ["The %s of the %s to which the %s with this %s belongs." % (c.name, p.t.name, t.name, k.name)],
        "value", "SELECT a.%s FROM %s b JOIN %s a ON a.%s = b.%s WHERE b.%s = ?" % (c.name, t.name, p.t.name, p.t.key, ref.name, k.name),
        [(k.name, k.json)], returns=c.json, D=c, P=p, ref=ref)


FAMILIES = {"get": _get, "find": _find, "list": _list, "count": _count, "count2": _count2, "top": _top, "topin": _topin, "nth": _nth,
            "agg": _agg, "stat": _stat, "groups": _groups, "countrange": _countrange, "rank": _rank, "prefixcount": _prefixcount,
            "prefix": _prefix, "longest": _longest, "alphabet": _alphabet, "missing": _missing, "distinct": _distinct,
            "joincount": _joincount, "joinattr": _joinattr}
