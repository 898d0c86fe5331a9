"""Check kinds: one thing that a task asks, in five forms that must agree.

A Leaf is a sentence of the prompt, a leaf of the answer schema, a Lua expression
over the tools, a check over the world, and the calls by which a solver finds the
value. Kinds are built from the tools at hand and from values that the prompt
shows (View), since nothing else is known to an author.
"""
import hashlib
import re

import toolset as T
import wordings

KINDS = {}


def kind(*families):
    def register(f):
        KINDS[f.__name__[2:]] = (families, f)
        return f
    return register


def lua(v):
    """A literal; only values for which Column.plain() holds get here."""
    return '"%s"' % v if isinstance(v, str) else repr(v)


def said(v):
    """A value in a prompt's sentence."""
    return '"%s"' % v if isinstance(v, str) else repr(v)


class Leaf:
    def __init__(self, kind, names, json_type, expr, sql, args, calls, slots, note="", pre="", check="value", done=None):
        self.kind, self.names, self.type, self.expr, self.sql, self.args = kind, names, json_type, expr, sql, args
        self.calls, self.slots, self.note, self.pre, self.check, self.done = calls, slots, note, pre, check, done
        self.name = self.text = self.value = None

    def solution(self):
        if self.pre:
            return self.pre.replace("$", self.name)
        return "  local %s = %s\n" % (self.name, self.expr)

    def verifier(self):
        q = lambda sql, args: 'world:value("%s"%s)' % (sql, "".join(", " + lua(a) for a in args))
        if self.check == "list":
            body = ('  local want = {}\n  for i, row in ipairs(world:rows("%s"%s)) do want[i] = row.%s end\n  return same(answer.%s, want)\n'
                    % (self.sql, "".join(", " + lua(a) for a in self.args), self.slots["L"], self.name))
        elif self.check in "+-":
            body = "  return answer.%s == %s %s %s\n" % (self.name, q(self.sql[0], self.args[:1]), self.check, q(self.sql[1], self.args[1:]))
        else:
            body = "  return answer.%s == %s\n" % (self.name, q(self.sql, self.args))
        return 'check{ name = "%s", text = [[%s]], run = function(world, answer, changes)\n%send }\n' % (self.name, self.text, body)

    def want(self, world):
        """The value by the verifier's own way."""
        if self.check == "list":
            return [row[self.slots["L"]] for row in world.rows(self.sql, self.args)]
        if self.check in "+-":
            a, b = world.value(self.sql[0], self.args[:1]), world.value(self.sql[1], self.args[1:])
            return None if a is None or b is None else a + b if self.check == "+" else a - b
        return world.value(self.sql, self.args)

    def schema(self):
        return {"type": "array", "items": {"type": self.type}} if self.check == "list" else {"type": self.type}

    def columns(self):
        """(table, column) that the solution's calls read."""
        out = set()
        for stage in self.calls:
            for tool, _ in stage:
                words = set(re.findall(r"\w+", tool.sql))
                for t in (tool.t, tool.about["P"].t if "P" in tool.about else tool.t):
                    out |= {(t.name, c.name) for c in t.columns if c.name in words}
        return out

    def carries(self):
        """Can this leaf stand alone? Its value must change when columns are dealt anew (gate 8; keys are only
        ever permuted, extremes mostly stay), and must not be an empty answer (gate 3)."""
        keys = {(tool.t.name, tool.t.key) for stage in self.calls for tool, _ in stage}
        return self.kind not in WEAK and bool(self.columns() - keys) and self.value not in (0, 0.0)

    def works(self):
        """Does a solver do more than copy what one call returns: another call with its result, arithmetic, a choice among rows?"""
        return len(self.calls) > 1 or self.done is not None or self.check == "list"


WEAK = {"topval", "nthval", "highest", "lowest", "spread", "length", "longest", "groupsn", "common", "commoncount", "distinct", "startfirst", "missing"}


class Context:
    """One author's situation: world, what its prompt shows, tools, and the roles of columns."""

    def __init__(self, r, world, view, tools):
        self.r, self.world, self.view, self.tools = r, world, view, tools
        self.roles = {t.name: T.Roles(t) for t in world.tables}
        self.by = {}
        for tool in tools:
            self.by.setdefault(tool.family, []).append(tool)

    def keys(self, t, among=None):
        k = [c.name for c in t.columns].index(t.key)
        vs = [row[k] for row in self.view.sample_rows[t.name]] + list(self.view.likes.get((t.name, t.key), []))
        vs = [v for v in dict.fromkeys(vs) if t[t.key].plain(v)]
        return vs

    def values(self, t, c):
        i = t.columns.index(c)
        vs = list(self.view.likes.get((t.name, c.name), [])) + [row[i] for row in self.view.sample_rows[t.name]]
        return [v for v in dict.fromkeys(vs) if v is not None and c.plain(v)]

    def fact(self, t, c, v=None):
        """What the prompt says of a column or of one of its values."""
        if v is not None and c.n <= 6:
            return "%s %s (%d)" % (c.name, v, c.counts.get(v, 0))
        return "%s %d values" % (c.name, c.n)

    def getter(self, t, column=None):
        for g in self.by.get("get", []):
            if g.t is t and (column is None or column in g.about["cols"]):
                return g
        return None


def table_of(tool):
    return tool.t


# ---- kinds. Each takes (ctx, tool) and returns a Leaf or None.

@kind("count")
def k_count(x, f):
    t, c = f.t, f.about["C"]
    vs = x.values(t, c)
    if not vs:
        return None
    v = x.r.choice(vs)
    return Leaf("count", ["n_%s" % c.name, "count", "%s_count" % c.name, "n_" + T.stem(t)], "integer",
                "tools.%s{%s = %s}" % (f.name, c.name, lua(v)), "SELECT COUNT(*) FROM %s WHERE %s = ?" % (t.name, c.name), [v],
                [[(f, {c.name: v})]], dict(T=t.name, C=c.name, v=said(v)), x.fact(t, c, v))


@kind("count")
def k_diff(x, f):
    t, c = f.t, f.about["C"]
    vs = x.values(t, c)
    if len(vs) < 2:
        return None
    v, w = x.r.sample(vs, 2)
    sql = "SELECT COUNT(*) FROM %s WHERE %s = ?" % (t.name, c.name)
    return Leaf("diff", ["difference", "%s_difference" % c.name, "more_%s" % c.name], "integer",
                "tools.%s{%s = %s} - tools.%s{%s = %s}" % (f.name, c.name, lua(v), f.name, c.name, lua(w)), [sql, sql], [v, w],
                [[(f, {c.name: v}), (f, {c.name: w})]], dict(T=t.name, C=c.name, v=said(v), w=said(w)),
                x.fact(t, c, v) + ", " + x.fact(t, c, w), check="-", done=lambda rs, val: "%s - %s = %s" % (rs[0], rs[1], val))


@kind("count")
def k_same(x, f):
    t, c = f.t, f.about["C"]
    g = x.getter(t, c.name)
    ks = x.keys(t)
    if not g or not ks:
        return None
    k = x.r.choice(ks)
    return Leaf("same", ["same_%s" % c.name, "sharing_%s" % c.name], "integer",
                "tools.%s{%s = tools.%s{%s = %s}.%s}" % (f.name, c.name, g.name, t.key, lua(k), c.name),
                "SELECT COUNT(*) FROM %s WHERE %s = (SELECT %s FROM %s WHERE %s = ?)" % (t.name, c.name, c.name, t.name, t.key), [k],
                [[(g, {t.key: k})], [(f, lambda rs: {c.name: rs[0][0][c.name]})]], dict(T=t.name, C=c.name, K=t.key, k=said(k)), x.fact(t, c))


@kind("count2")
def k_count2(x, f):
    t, c, d = f.t, f.about["C"], f.about["D"]
    i, j = t.columns.index(c), t.columns.index(d)
    ps = [(row[i], row[j]) for row in x.view.sample_rows[t.name] if row[i] is not None and row[j] is not None and c.plain(row[i]) and d.plain(row[j])]
    if not ps:
        return None
    v, w = x.r.choice(ps)
    return Leaf("count2", ["n_both", "both_%s" % c.name, "n_%s_%s" % (c.name, d.name)], "integer",
                "tools.%s{%s = %s, %s = %s}" % (f.name, c.name, lua(v), d.name, lua(w)),
                "SELECT COUNT(*) FROM %s WHERE %s = ? AND %s = ?" % (t.name, c.name, d.name), [v, w],
                [[(f, {c.name: v, d.name: w})]], dict(T=t.name, C=c.name, v=said(v), D=d.name, w=said(w)), x.fact(t, c, v) + ", " + x.fact(t, d, w))


@kind("get")
def k_attr(x, f):
    t = f.t
    cs = [t[c] for c in f.about["cols"] if c != t.key]
    ks = x.keys(t)
    if not cs or not ks:
        return None
    c, k = x.r.choice(cs), x.r.choice(ks)
    return Leaf("attr", [c.name, "its_" + c.name, "%s_of_row" % c.name], c.json, "tools.%s{%s = %s}.%s" % (f.name, t.key, lua(k), c.name),
                "SELECT %s FROM %s WHERE %s = ?" % (c.name, t.name, t.key), [k], [[(f, {t.key: k})]],
                dict(T=t.name, C=c.name, K=t.key, k=said(k)), x.fact(t, c), done=None)


def _pair(x, f, name, op):
    t = f.t
    cs = [t[c] for c in f.about["cols"] if c != t.key and t[c].type == "INTEGER" and t[c].n > 5]
    ks = x.keys(t)
    if not cs or len(ks) < 2:
        return None
    c = x.r.choice(cs)
    if max(abs(v) for v in c.counts) > 99999:
        return None
    k, m = x.r.sample(ks, 2)
    sql = "SELECT %s FROM %s WHERE %s = ?" % (c.name, t.name, t.key)
    e = "tools.%s{%s = %s}.%s"
    return Leaf(name, ["%s_%s" % (c.name, "gap" if op == "-" else "sum"), "gap" if op == "-" else "sum"], "integer",
                (e + " %s " + e) % (f.name, t.key, lua(k), c.name, op, f.name, t.key, lua(m), c.name), [sql, sql], [k, m],
                [[(f, {t.key: k}), (f, {t.key: m})]], dict(T=t.name, C=c.name, K=t.key, k=said(k), m=said(m)), x.fact(t, c), check=op,
                done=lambda rs, val: "%s %s %s %s %s = %s" % (c.name, rs[0].get(c.name), op, c.name, rs[1].get(c.name), val))


@kind("get")
def k_gap(x, f):
    return _pair(x, f, "gap", "-")


@kind("get")
def k_sum2(x, f):
    return _pair(x, f, "sum2", "+")


def _order(t, c, up, where=""):
    w = " AND ".join(([where] if where else []) + ([] if up else ["%s IS NOT NULL" % c.name]))
    return "%s ORDER BY %s%s, %s" % (" WHERE " + w if w else "", c.name, " DESC" if up else "", t.key)


def _top(x, f, i, field):
    """Field of the i-th row of a top, topin or nth tool."""
    t, c, up = f.t, f.about["N"], f.about["up"]
    if field not in f.about["cols"]:
        return None
    col, args, where, wargs = t[field], {}, "", []
    slots = dict(T=t.name, N=c.name, L=field, K=t.key, i=i, way="highest" if up else "lowest", where="")
    if f.family == "topin":
        g = f.about["C"]
        vs = x.values(t, g)
        if not vs:
            return None
        v = x.r.choice(vs)
        args, where, wargs = {g.name: v}, g.name + " = ?", [v]
        slots["where"] = " among the %s with %s %s" % (t.name, g.name, said(v))
    if f.family == "nth":
        args["place"] = i
        expr = "tools.%s{place = %d}.%s" % (f.name, i, field)
    else:
        args["n"] = i
        expr = "tools.%s{%sn = %d}[%d].%s" % (f.name, "".join("%s = %s, " % (a, lua(b)) for a, b in args.items() if a != "n"), i, i, field)
    sql = "SELECT %s FROM %s%s LIMIT 1" % (field, t.name, _order(t, c, up, where)) + (" OFFSET ? - 1" if i > 1 else "")
    name = "top" if i == 1 and field != c.name else "topval" if i == 1 else "nth" if field != c.name else "nthval"
    way = slots["way"]
    names = {"top": ["%s_%s" % ("top" if up else "last", field), "%s_%s" % (field, way), "%s_%s_%s" % (way, c.name, field)],
             "topval": ["%s_%s" % (way, c.name), "%s_%s" % ("max" if up else "min", c.name)],
             "nth": ["%s_at_place" % field, "nth_%s" % field, "placed_%s" % field], "nthval": ["%s_at_place" % c.name, "nth_%s" % c.name]}[name]
    return Leaf(name, names, col.json, expr, sql, wargs + ([i] if i > 1 else []), [[(f, args)]], slots, x.fact(t, col),
                done=(lambda rs, val: ", ".join("%d %s" % (k, row.get(field)) for k, row in enumerate(rs[0], 1))) if i > 1 and f.family != "nth" else None)


@kind("top", "topin", "nth")
def k_top(x, f):
    return _top(x, f, 1, x.r.choice([c for c in f.about["cols"] if c != f.about["N"].name] or f.about["cols"]))


@kind("top", "topin", "nth")
def k_topval(x, f):
    return _top(x, f, 1, f.about["N"].name)


@kind("top", "nth")
def k_nth(x, f):
    i = x.r.randint(2, 5 if f.family == "top" else 12)
    return _top(x, f, i, x.r.choice([c for c in f.about["cols"] if c != f.about["N"].name] or f.about["cols"])) if f.t.n > i + 2 else None


@kind("top", "nth")
def k_nthval(x, f):
    i = x.r.randint(2, 5 if f.family == "top" else 12)
    return _top(x, f, i, f.about["N"].name) if f.t.n > i + 2 else None


def _first_key(f):
    t = f.t
    args = {"place": 1} if f.family == "nth" else {"n": 1}
    e = "tools.%s{place = 1}.%s" if f.family == "nth" else "tools.%s{n = 1}[1].%s"
    return args, e % (f.name, t.key), (lambda rs: rs[0][0][t.key] if f.family == "nth" else rs[0][0][0][t.key])


@kind("top", "nth")
def k_topattr(x, f):
    t, c, up = f.t, f.about["N"], f.about["up"]
    g = x.getter(t)
    if not g:
        return None
    ds = [t[d] for d in g.about["cols"] if d != t.key and d not in f.about["cols"] and not t[d].missing]
    if not ds:
        return None
    d = x.r.choice(ds)
    args, e, key = _first_key(f)
    return Leaf("topattr", ["%s_of_top" % d.name, "top_%s" % d.name], d.json, "tools.%s{%s = %s}.%s" % (g.name, t.key, e, d.name),
                "SELECT %s FROM %s%s LIMIT 1" % (d.name, t.name, _order(t, c, up)), [], [[(f, args)], [(g, lambda rs: {t.key: key(rs)})]],
                dict(T=t.name, D=d.name, N=c.name, K=t.key, way="highest" if up else "lowest"), x.fact(t, d))


@kind("top", "nth")
def k_topsame(x, f):
    t, c, up = f.t, f.about["N"], f.about["up"]
    for n in x.by.get("count", []):
        d = n.about["C"]
        g = x.getter(t, d.name)
        if n.t is t and g and not d.missing:
            args, e, key = _first_key(f)
            return Leaf("topsame", ["sharing_top_%s" % d.name, "like_top"], "integer",
                        "tools.%s{%s = tools.%s{%s = %s}.%s}" % (n.name, d.name, g.name, t.key, e, d.name),
                        "SELECT COUNT(*) FROM %s WHERE %s = (SELECT %s FROM %s%s LIMIT 1)" % (t.name, d.name, d.name, t.name, _order(t, c, up)), [],
                        [[(f, args)], [(g, lambda rs: {t.key: key(rs)})], [(n, lambda rs: {d.name: rs[1][0][d.name]})]],
                        dict(T=t.name, D=d.name, N=c.name, K=t.key, way="highest" if up else "lowest"), x.fact(t, d))
    return None


def _agg_leaf(x, f, how, expr_tail, type_):
    t, c, g = f.t, f.about["N"], f.about["C"]
    v, args = None, {}
    slots = dict(T=t.name, N=c.name, how=how, where="", rounded=" rounded to 2 decimals" if how == "mean" or (how == "total" and c.type == "REAL") else "")
    if g:
        vs = x.values(t, g)
        if not vs:
            return None
        v = x.r.choice(vs)
        args = {g.name: v}
        slots["where"] = " with %s %s" % (g.name, said(v))
    expr = "tools.%s{%s}%s" % (f.name, ", ".join("%s = %s" % (a, lua(b)) for a, b in args.items()), expr_tail)
    sql = "SELECT %s FROM %s%s" % (T.agg_sql(how, c), t.name, " WHERE %s = ?" % g.name if g else "")
    return Leaf(how, ["%s_%s" % (how, c.name), "%s_%s_%s" % (c.name, how, g.name) if g else "%s_%s" % (c.name, how)], type_, expr, sql,
                [v] if g else [], [[(f, args)]], slots, x.fact(t, g, v) if g else x.fact(t, c))


@kind("agg", "agg", "stat")
def k_agg(x, f):
    how = f.about["f"] if f.family == "agg" else x.r.choice(("total", "mean", "lowest", "highest"))
    return _agg_leaf(x, f, how, "" if f.family == "agg" else "." + how, T.agg_type(how, f.about["N"]))


@kind("stat")
def k_spread(x, f):
    c, g, t = f.about["N"], f.about["C"], f.t
    if c.type != "INTEGER" or max(abs(v) for v in c.counts) > 99999:
        return None
    leaf = _agg_leaf(x, f, "highest", "", "integer")
    if not leaf:
        return None
    call = leaf.expr
    leaf.kind, leaf.names = "spread", ["%s_spread" % c.name, "spread"]
    leaf.pre = "  local $ = %s\n  $ = $.highest - $.lowest\n" % call
    leaf.expr = "%s, highest - lowest" % call
    leaf.sql = "SELECT MAX(%s) - MIN(%s) FROM %s%s" % (c.name, c.name, t.name, " WHERE %s = ?" % g.name if g else "")
    leaf.done = lambda rs, val: "highest %s - lowest %s = %s" % (rs[0].get("highest"), rs[0].get("lowest"), val)
    return leaf


def _group(x, f, name, names, type_, tail, sel, limit=" LIMIT 1", done=None):
    t, c = f.t, f.about["C"]
    return Leaf(name, names, type_, ("#tools.%s{}" if tail == "#" else "tools.%s{}" + tail) % f.name,
                "SELECT %s FROM %s WHERE %s IS NOT NULL" % (sel, t.name, c.name) + (" GROUP BY %s ORDER BY COUNT(*) DESC, %s" % (c.name, c.name) if limit else "") + limit,
                [], [[(f, {})]], dict(T=t.name, C=c.name), x.fact(t, c), done=done)


@kind("groups")
def k_common(x, f):
    c = f.about["C"]
    return _group(x, f, "common", ["common_%s" % c.name, "main_%s" % c.name], c.json, "[1]." + c.name, c.name)


@kind("groups")
def k_commoncount(x, f):
    c = f.about["C"]
    return _group(x, f, "commoncount", ["n_common_%s" % c.name, "largest_group"], "integer", "[1].n", "COUNT(*)")


@kind("groups")
def k_groupsn(x, f):
    c = f.about["C"]
    if c.n > 24:
        return None
    return _group(x, f, "groupsn", ["n_%s_values" % c.name, "different_%s" % c.name], "integer", "#", "COUNT(DISTINCT %s)" % c.name, "",
                  done=lambda rs, val: ", ".join("%d %s" % (i, row[c.name]) for i, row in enumerate(rs[0], 1)))


@kind("countrange")
def k_countrange(x, f):
    t, c = f.t, f.about["N"]
    i = t.columns.index(c)
    vs = {row[i] for row in x.view.sample_rows[t.name] if row[i] is not None and c.plain(row[i])}
    if c.n > 6 and c.type != "TEXT":
        vs |= {min(c.counts), max(c.counts)}
    if len(vs) < 2:
        return None
    lo, hi = sorted(x.r.sample(sorted(vs), 2))
    if lo == min(c.counts) and hi == max(c.counts):
        return None
    return Leaf("countrange", ["n_in_range", "%s_in_range" % c.name, "n_%s_range" % c.name], "integer",
                "tools.%s{low = %s, high = %s}" % (f.name, lua(lo), lua(hi)),
                "SELECT COUNT(*) FROM %s WHERE %s >= ? AND %s <= ?" % (t.name, c.name, c.name), [lo, hi], [[(f, {"low": lo, "high": hi})]],
                dict(T=t.name, N=c.name, lo=said(lo), hi=said(hi)), x.fact(t, c))


@kind("rank")
def k_rank(x, f):
    t, c = f.t, f.about["N"]
    ks = x.keys(t)
    if not ks:
        return None
    k = x.r.choice(ks)
    return Leaf("rank", ["%s_rank" % c.name, "rank", "place"], "integer", "tools.%s{%s = %s}" % (f.name, t.key, lua(k)),
                "SELECT COUNT(*) + 1 FROM %s WHERE %s > (SELECT %s FROM %s WHERE %s = ?)" % (t.name, c.name, c.name, t.name, t.key), [k],
                [[(f, {t.key: k})]], dict(T=t.name, N=c.name, K=t.key, k=said(k)), x.fact(t, c))


def _starts(x, f):
    t, c = f.t, f.about["C"]
    out = []
    for v in x.values(t, c):
        s = v[:x.r.choice((1, 1, 1, 2))]
        if s.isalpha():
            out.append(s)
    return out


@kind("prefixcount")
def k_startcount(x, f):
    t, c, ss = f.t, f.about["C"], _starts(x, f)
    if not ss:
        return None
    s = x.r.choice(ss)
    return Leaf("startcount", ["n_starting", "%s_starting" % c.name, "n_%s_start" % c.name], "integer", "tools.%s{start = %s}" % (f.name, lua(s)),
                "SELECT COUNT(*) FROM %s WHERE %s LIKE ? || '%%'" % (t.name, c.name), [s], [[(f, {"start": s})]],
                dict(T=t.name, C=c.name, s=said(s)), x.fact(t, c))


@kind("prefix")
def k_startfirst(x, f):
    t, c, ss = f.t, f.about["C"], _starts(x, f)
    if not ss:
        return None
    s = x.r.choice(ss)
    return Leaf("startfirst", ["first_%s" % c.name, "first_%s_starting" % c.name], c.json, "tools.%s{start = %s, n = 1}[1].%s" % (f.name, lua(s), c.name),
                "SELECT %s FROM %s WHERE %s LIKE ? || '%%' ORDER BY %s LIMIT 1" % (c.name, t.name, c.name, c.name), [s], [[(f, {"start": s, "n": 1})]],
                dict(T=t.name, C=c.name, s=said(s)), x.fact(t, c))


@kind("longest")
def k_longest(x, f):
    t, c = f.t, f.about["C"]
    return Leaf("longest", ["longest_%s" % c.name, "long_%s" % c.name], c.json, "tools.%s{n = 1}[1].%s" % (f.name, c.name),
                "SELECT %s FROM %s ORDER BY LENGTH(%s) DESC, %s LIMIT 1" % (c.name, t.name, c.name, t.key), [], [[(f, {"n": 1})]],
                dict(T=t.name, C=c.name, K=t.key), x.fact(t, c))


@kind("longest")
def k_length(x, f):
    t, c = f.t, f.about["C"]
    return Leaf("length", ["longest_length", "%s_length" % c.name], "integer", "tools.%s{n = 1}[1].length" % f.name,
                "SELECT MAX(LENGTH(%s)) FROM %s" % (c.name, t.name), [], [[(f, {"n": 1})]], dict(T=t.name, C=c.name), x.fact(t, c))


@kind("alphabet")
def k_alphabet(x, f):
    t, c = f.t, f.about["C"]
    i = x.r.randint(2, 40 if t.n > 100 else 12)
    if t.n < i + 3 + c.missing:
        return None
    return Leaf("alphabet", ["%s_at_place" % c.name, "nth_%s" % c.name, "placed_%s" % c.name], c.json, "tools.%s{place = %d}.%s" % (f.name, i, c.name),
                "SELECT %s FROM %s WHERE %s IS NOT NULL ORDER BY %s LIMIT 1 OFFSET ? - 1" % (c.name, t.name, c.name, c.name), [i], [[(f, {"place": i})]],
                dict(T=t.name, C=c.name, i=i), "%d rows" % t.n)


@kind("missing")
def k_missing(x, f):
    t, c = f.t, f.about["C"]
    return Leaf("missing", ["n_without_%s" % c.name, "missing_%s" % c.name], "integer", "tools.%s{}" % f.name,
                "SELECT COUNT(*) FROM %s WHERE %s IS NULL" % (t.name, c.name), [], [[(f, {})]], dict(T=t.name, C=c.name), "%d missing" % c.missing)


@kind("distinct")
def k_distinct(x, f):
    t, g, c = f.t, f.about["C"], f.about["D"]
    vs = x.values(t, g)
    if not vs:
        return None
    v = x.r.choice(vs)
    return Leaf("distinct", ["n_different_%s" % c.name, "distinct_%s" % c.name], "integer", "tools.%s{%s = %s}" % (f.name, g.name, lua(v)),
                "SELECT COUNT(DISTINCT %s) FROM %s WHERE %s = ?" % (c.name, t.name, g.name), [v], [[(f, {g.name: v})]],
                dict(T=t.name, C=g.name, D=c.name, v=said(v)), x.fact(t, c))


@kind("find")
def k_find(x, f):
    t, c = f.t, f.about["C"]
    vs = x.values(t, c)
    ds = [t[d] for d in f.about["cols"] if d != c.name and not t[d].missing]
    if not vs or not ds:
        return None
    v, d = x.r.choice(vs), x.r.choice(ds)
    return Leaf("find", ["%s_of_%s" % (d.name, c.name), "found_%s" % d.name], d.json, "tools.%s{%s = %s}[1].%s" % (f.name, c.name, lua(v), d.name),
                "SELECT %s FROM %s WHERE %s = ? ORDER BY %s LIMIT 1" % (d.name, t.name, c.name, t.key), [v], [[(f, {c.name: v})]],
                dict(T=t.name, C=c.name, D=d.name, K=t.key, v=said(v)), x.fact(t, d))


def _small(x, f, most):
    """A value of the list tool's column whose rows are few enough to read, as the prompt's counts tell."""
    t, c = f.t, f.about["C"]
    vs = [v for v in x.values(t, c) if c.counts.get(v, 0) <= most] if c.n <= 6 else (x.values(t, c) if t.n / c.n <= most / 2 else [])
    return x.r.choice(vs) if vs else None


def _field(f):
    q = T.Roles(f.t)
    return q.label.name if q.label.name in f.about["cols"] else f.t.key if f.t.key in f.about["cols"] else None


@kind("list")
def k_list(x, f):
    t, c, v, d = f.t, f.about["C"], _small(x, f, 6), _field(f)
    if v is None or d is None or (t[d].missing and d != t.key):
        return None
    return Leaf("list", ["%s_list" % d, "all_%s" % d, d + "_values"], t[d].json, "%s of tools.%s{%s = %s}" % (d, f.name, c.name, lua(v)),
                "SELECT %s FROM %s WHERE %s = ? ORDER BY %s" % (d, t.name, c.name, t.key), [v], [[(f, {c.name: v})]],
                dict(T=t.name, C=c.name, L=d, K=t.key, v=said(v)), x.fact(t, c, v), check="list",
                pre="  local $ = {}\n  for i, row in ipairs(tools.%s{%s = %s}) do $[i] = row.%s end\n" % (f.name, c.name, lua(v), d))


@kind("list")
def k_first(x, f):
    t, c, d = f.t, f.about["C"], _field(f)
    vs = x.values(t, c)
    if not vs or d is None:
        return None
    v = x.r.choice(vs)
    return Leaf("first", ["first_%s" % d, "%s_first" % c.name], t[d].json, "tools.%s{%s = %s}[1].%s" % (f.name, c.name, lua(v), d),
                "SELECT %s FROM %s WHERE %s = ? ORDER BY %s LIMIT 1" % (d, t.name, c.name, t.key), [v], [[(f, {c.name: v})]],
                dict(T=t.name, C=c.name, L=d, K=t.key, v=said(v)), x.fact(t, t[d]))


def _list_number(x, f, most):
    v = _small(x, f, most)
    ns = [f.t[c] for c in f.about["cols"] if f.t[c].type == "INTEGER" and not f.t[c].missing and f.t[c].n > 5 and c != f.t.key]
    return (v, x.r.choice(ns)) if v is not None and ns else (None, None)


@kind("list")
def k_listtop(x, f):
    t, c, d = f.t, f.about["C"], _field(f)
    v, n = _list_number(x, f, 9)
    if v is None or d is None or d == n.name:
        return None
    up = x.r.random() < 0.6
    return Leaf("listtop", ["%s_%s" % ("top" if up else "last", d), "%s_%s" % (d, "highest" if up else "lowest")], t[d].json,
                "%s %s of tools.%s{%s = %s}" % ("highest" if up else "lowest", n.name, f.name, c.name, lua(v)),
                "SELECT %s FROM %s WHERE %s = ? ORDER BY %s%s, %s LIMIT 1" % (d, t.name, c.name, n.name, " DESC" if up else "", t.key), [v],
                [[(f, {c.name: v})]], dict(T=t.name, C=c.name, L=d, N=n.name, K=t.key, v=said(v), way="highest" if up else "lowest"), x.fact(t, c, v),
                pre="  local rows = tools.%s{%s = %s}\n  local $ = rows[1]\n  for _, row in ipairs(rows) do\n    if row.%s %s $.%s then $ = row end\n  end\n  $ = $.%s\n"
                % (f.name, c.name, lua(v), n.name, ">" if up else "<", n.name, d),
                done=lambda rs, val: ", ".join(str(row.get(n.name)) for row in rs[0]) + ": %s %s" % (
                    (max if up else min)((row.get(n.name) for row in rs[0]), default=0), val))


@kind("list")
def k_listsum(x, f):
    t, c = f.t, f.about["C"]
    v, n = _list_number(x, f, 5)
    if v is None or max(abs(y) for y in n.counts) > 9999:
        return None

    def done(rs, val):
        total, out = 0, []
        for row in rs[0]:
            total += row[n.name]
            out.append("+ %d = %d" % (row[n.name], total))
        return " ".join(out)
    return Leaf("listsum", ["sum_%s" % n.name, "%s_sum" % n.name], "integer", "sum of %s in tools.%s{%s = %s}" % (n.name, f.name, c.name, lua(v)),
                "SELECT COALESCE(SUM(%s), 0) FROM %s WHERE %s = ?" % (n.name, t.name, c.name), [v], [[(f, {c.name: v})]],
                dict(T=t.name, C=c.name, N=n.name, v=said(v)), x.fact(t, c, v),
                pre="  local $ = 0\n  for _, row in ipairs(tools.%s{%s = %s}) do $ = $ + row.%s end\n" % (f.name, c.name, lua(v), n.name), done=done)


@kind("joincount")
def k_joincount(x, f):
    t, c, p = f.t, f.about["C"], f.about["P"]
    vs = x.values(p.t, c)
    if not vs:
        return None
    v = x.r.choice(vs)
    return Leaf("joincount", ["n_%s" % T.stem(t), "n_%s_by_%s" % (T.stem(t), c.name)], "integer", "tools.%s{%s = %s}" % (f.name, c.name, lua(v)),
                "SELECT COUNT(*) FROM %s WHERE %s IN (SELECT %s FROM %s WHERE %s = ?)" % (t.name, f.about["ref"].name, p.t.key, p.t.name, c.name), [v],
                [[(f, {c.name: v})]], dict(T=t.name, P=p.t.name, C=c.name, v=said(v)), x.fact(p.t, c, v))


@kind("joinattr")
def k_joinattr(x, f):
    t, c, p = f.t, f.about["D"], f.about["P"]
    ks = x.keys(t)
    if not ks or c.missing:
        return None
    k = x.r.choice(ks)
    return Leaf("joinattr", ["%s_%s" % (T.stem(p.t), c.name), "%s_of_its_%s" % (c.name, T.stem(p.t))], c.json, "tools.%s{%s = %s}" % (f.name, t.key, lua(k)),
                "SELECT %s FROM %s WHERE %s = (SELECT %s FROM %s WHERE %s = ?)" % (c.name, p.t.name, p.t.key, f.about["ref"].name, t.name, t.key), [k],
                [[(f, {t.key: k})]], dict(T=t.name, P=p.t.name, C=c.name, K=t.key, k=said(k)), x.fact(p.t, c))


# ---- held-out pairs of kinds

ALL_KINDS = sorted(wordings.SENTENCES)


def pair_held(a, b):
    """20% of the unordered pairs of kinds never stand in one training task."""
    if a == b:
        return False
    h = hashlib.sha256(("pair %s %s" % tuple(sorted((a, b)))).encode()).digest()
    return h[0] < 51


def held_pairs(kinds):
    return any(pair_held(a, b) for i, a in enumerate(kinds) for b in kinds[:i])


def triple_held(a, b, c):
    """35% of the sequences of three kinds never follow one another in training: from level 3 on an author that composes
    makes tasks of shapes that its teacher never drew."""
    h = hashlib.sha256(("triple %s %s %s" % (a, b, c)).encode()).digest()
    return h[0] < 90


def sample_leaf(x, taken=(), held=False, tries=16, accept=None):
    """One new leaf that is feasible in the world, by a tool at random; None if none was found."""
    r = x.r
    have = {(leaf.sql if isinstance(leaf.sql, str) else tuple(leaf.sql), tuple(leaf.args)) for leaf in taken}
    kinds = [leaf.kind for leaf in taken]
    for _ in range(tries):
        f = r.choice(x.tools)
        options = [k for k, (fs, _) in KINDS.items() if f.family in fs]
        if not options:
            continue
        leaf = KINDS[r.choice(options)][1](x, f)
        if not leaf or ((leaf.sql if isinstance(leaf.sql, str) else tuple(leaf.sql)), tuple(leaf.args)) in have:
            continue
        if leaf.kind in kinds and r.random() < 0.7:
            continue
        if not held and any(pair_held(leaf.kind, k) for k in kinds):
            continue
        if not held and len(kinds) > 1 and triple_held(kinds[-2], kinds[-1], leaf.kind):
            continue
        if held == "only" and kinds and not any(pair_held(leaf.kind, k) for k in kinds):
            continue
        if settle(x, leaf) and (accept is None or accept(leaf)):
            return leaf
    return None


def settle(x, leaf):
    """Run the calls, fix the value; False where the world has no proper value."""
    results = []
    try:
        for stage in leaf.calls:
            args = [a(results) if callable(a) else a for _, a in stage]
            if any(v is None for a in args for v in a.values()):
                return False
            results.append([f.call(x.world, a) for (f, _), a in zip(stage, args)])
        leaf.value = leaf.want(x.world)
    except (KeyError, IndexError, TypeError):
        return False
    v = leaf.value
    if v is None or v == [] or (isinstance(v, list) and (len(v) > 6 or any(isinstance(e, str) and not 0 < len(e) <= 60 for e in v))):
        return False
    if isinstance(v, float) and len(repr(v)) > 9 or isinstance(v, int) and abs(v) > 10 ** 12:
        return False
    if isinstance(v, str) and not (0 < len(v) <= 80 and v.isprintable()):
        return False
    if leaf.kind in ("list", "listtop", "listsum") and (not results[0][0] or len(results[0][0]) > (6 if leaf.kind == "list" else 9)):
        return False
    if leaf.kind not in ("first", "common", "commoncount") and any(len(T.render(v)) > 1000 for stage in results for v in stage):
        return False
    leaf.results = results
    return True
