"""The retrieve stage: search, fetch, import_table over a small pseudo web.

Documents are CSV, TSV, JSON, HTML pages with tables, and white-space tables with
comments; what search, fetch and import_table answer is written as synth/retrieval
writes it (document.c, index.c, import.c).
"""
import re

import words as W
import world as Wd
from encoding import Call, Document

CAP = 1024  # characters of a page of a result, for a window of 4,096 tokens


def page(text, cap=CAP, k=1):
    """Cut a result into pages as synth/page.c does; page k."""
    pages, at = [], 0
    while at < len(text) or not pages:
        end = min(len(text), at + cap)
        if end < len(text):
            half = at + cap // 2
            cut = text.rfind("\n", half, end) + 1
            if cut <= half:
                cut = text.rfind(", ", half, end) + 2
                if cut < half + 2:
                    cut = 0
            end = cut or end
        pages.append(text[at:end])
        at = end
    n = len(pages)
    if n == 1:
        return text
    p = pages[k - 1]
    return p + ("" if p.endswith("\n") else "\n") + "... page %d of %d" % (k, n) + ('; the next: "more": %d' % (k + 1) if k < n else "")


def fold(header):
    name = re.sub(r"[^0-9a-zA-Z]+", "_", header).strip("_").lower()[:40]
    if name[:1].isdigit():
        name = "c_" + name
    name = name or "col"
    return name + "_" if name in W.RESERVED else name


def _header(r, name):
    """A header as it may stand in a file; fold() gives back the column's name or a like one."""
    u = r.random()
    if u < 0.55:
        return name
    h = name.rstrip("_")
    if u < 0.7:
        return h.replace("_", " ").title()
    if u < 0.8:
        return h.replace("_", ".")
    if u < 0.87:
        return h.capitalize()
    if u < 0.93:
        return h.replace("_", " ").title() + r.choice((" (%)", " (kg)", " [m]", "?", " (USD)"))
    return "".join(p.capitalize() for p in h.split("_"))


class Source:
    """A table as a document: its address, title, kind, and how it is imported."""

    def __init__(self, r, table, words):
        self.table, self.words = table, words
        cols = [c for c in table.columns if c.name != "row_id"]
        self.kind = r.choices(("csv", "tsv", "json", "html", "text"), (5, 1.2, 2.5, 2, 1))[0]
        if self.kind == "text":  # fields of such tables hold no blanks
            cols = [c for c in cols if all(" " not in str(v) and v is not None for v in c.values)] or []
            if len(cols) < 2:
                self.kind, cols = "csv", [c for c in table.columns if c.name != "row_id"]
        self.cols = cols
        seen, self.headers = set(), []
        for c in cols:
            h = _header(r, c.name) if self.kind != "json" else c.name
            if fold(h) in seen:
                h = c.name
            seen.add(fold(h))
            self.headers.append(h)
        stem = r.choice(("_", "-", "")).join(words) if r.random() < 0.6 else table.name
        if r.random() < 0.15:
            stem = stem.capitalize()
        if r.random() < 0.15:
            stem += "_%d" % r.randint(1, 2024)
        self.stem = stem or "data"
        ext = {"csv": ".csv", "tsv": r.choice((".tsv", ".tab")), "json": ".json", "html": ".html", "text": r.choice(("", ".txt", ""))}[self.kind]
        u = r.random()
        base = W.word(r)
        if u < 0.4:
            root = "http://%s:%d/" % (r.choice(("127.0.0.1", "localhost")), r.randint(1024, 65535))
            path = r.choice(("csv/%s/" % base, "data/", "%s/" % base, "doc/%s/" % base, ""))
        elif u < 0.6:
            root, path = "https://%s%s.%s/" % (r.choice(("", "www.", "data.")), base, r.choice(("org", "com", "net", "gov", "edu"))), r.choice(("", "tables/", "data/%s/" % W.word(r)))
        else:
            root, path = "doc:", r.choice(("json/", "etc/", "share/", "tables/", "zoneinfo/", "%s/" % base, "data/%s/" % base, ""))
        self.address = root + path + self.stem + ext
        self.name = self.stem + ext
        title = " ".join(w.capitalize() if r.random() < 0.5 else w for w in words)
        self.title = self.name if root == "doc:" and self.kind != "html" else (title + r.choice((" data", "", " table", " - " + W.word(r), " %d %d CSV" % (table.n, len(cols)))))

    def snippet(self, r):
        u = r.random()
        if u < 0.4:
            return " ".join(self.headers[:6]) + " …"
        ws = list(self.words) + [W.word(r) for _ in range(r.randint(3, 10))]
        r.shuffle(ws)
        return ("…" if u < 0.6 else "") + " ".join(ws) + " …"

    def cell(self, v):
        return "" if v is None else v if isinstance(v, str) else repr(v)

    def fetched(self, r):
        t, out = self.table, self.address + "\n"
        rows = list(zip(*[c.values for c in self.cols]))
        if self.kind in ("csv", "tsv"):
            out += "%s, %d rows, %d columns\n%s\n" % (self.kind, t.n, len(self.cols), " | ".join(self.headers))
            return out + "".join(" | ".join(map(self.cell, row)) + "\n" for row in rows[:3])
        if self.kind == "json":
            pointer = r.choice(("", "/" + W.word(r), "/%d-%d" % (r.randint(100, 9999), r.randint(1, 9)), "/data", "/results/items", "/" + self.stem))
            self.pointer = pointer
            item = {h: v for h, v in zip(self.headers, rows[0]) if v is not None}
            text = Wd.json.dumps(item, ensure_ascii=False)
            out += "json\narray %s: %d items, %s\n%s\n" % (pointer, t.n, ", ".join(item), text if len(text) <= 400 else text[:400] + "…")
            if r.random() < 0.15:
                out += "array /%s: %d items, id\n{\"id\": 1}\n" % (W.word(r), r.randint(1, max(1, t.n - 1)))
            return out
        if self.kind == "html":
            n, k = r.randint(1, 3), 0
            self.number = k = r.randint(1, n)
            out += "title: %s\ntables:\n" % self.title
            for i in range(1, n + 1):
                out += "[%d] %d rows: %s\n" % (i, t.n if i == k else r.randint(1, 4), " | ".join(self.headers) if i == k else W.word(r) + " | " + W.word(r))
            if r.random() < 0.6:
                out += "links:\n" + "".join("[%d] https://%s.org/%s %s\n" % (i + 1, W.word(r), W.word(r), W.word(r)) for i in range(r.randint(1, 4)))
            return out + "text:\n" + "\n".join(W.sentence(r) for _ in range(r.randint(1, 6))) + "\n"
        out += "text\n" + "".join("# %s\n" % W.sentence(r) for _ in range(r.randint(0, 5)))
        out += "# " + "  ".join(self.headers) + "\n"
        sep = r.choice(("\t", "  ", " ", "\t\t"))
        return out + "".join(sep.join(map(self.cell, row)) + "\n" for row in rows[:60])

    def arguments(self, r, into, keep):
        a = {"source": self.address, "into": into, "format": {"text": "csv"}.get(self.kind, self.kind)}
        if self.kind == "json":
            a["at"] = self.pointer
        if self.kind == "html":
            a["at"] = self.number
        if keep:
            a["columns"] = [self.headers[i] for i in keep]
        if self.kind == "text":
            a["delimiter"] = "space"
            a["comment"] = "#"
        return a

    def imported(self, into, keep):
        """(columns under their new names, import_table's result)."""
        used, cols = set(), []
        for i in keep or range(len(self.cols)):
            name, k = fold(self.headers[i]), 2
            while name in used:
                name, k = fold(self.headers[i]) + "_%d" % k, k + 1
            used.add(name)
            c = self.cols[i]
            cols.append((self.headers[i], Wd.Column(name, c.type, c.values, c.role)))
        t = Wd.finish(into, [c for _, c in cols])
        out = "table %s: %d rows, key %s\n" % (into, t.n, t.key)
        if t.key == "row_id":
            out += "- row_id INTEGER added\n"
        for h, c in cols:
            out += "- %s %s%s\n" % (c.name, c.type, "" if h == c.name else " from " + h)
        return t, out


def _table(r, real):
    if real and r.random() < 0.4:
        t = real.table(r)
        if t and t.n >= 6:
            return t
    return Wd.pseudo_table(r)


def _keep(r, s):
    """Columns worth keeping, as indices; None for all. Long texts are left out."""
    n = len(s.cols)
    long = [i for i, c in enumerate(s.cols) if c.type == "TEXT" and c.n and sum(map(len, c.counts)) / c.n > 45]
    if n <= 7 and not long:
        return None
    ok = [i for i in range(n) if i not in long]
    if len(ok) < 2:
        return None
    return ok[:7]


def _distractor(r):
    ws = [W.word(r) if r.random() < 0.6 else r.choice(W.SEED) for _ in range(2)]
    return Source(r, Wd.pseudo_table(r), ws)


def retrieve_doc(r, prompts, real):
    words = [W.word(r) if r.random() < 0.5 else r.choice(W.SEED) for _ in range(r.choice((1, 2, 2, 3)))]
    table = _table(r, real)
    if len([c for c in table.columns if c.name != "row_id"]) < 2:
        return None
    s = Source(r, table, words)
    base = " ".join(words)
    category = base if r.random() < 0.4 else r.choice(("%s planning", "%s data", "records of %s", "%s and statistics", "%s registry", "facts on %s", "%s survey",
                                                       "choose among %s", "study of %s", "%s in numbers", "the %s of the world", "planning with %s")) % base
    d = Document("retrieve")
    prompts.author(d, "search", "fetch", "bash", "import_table")
    d.user(prompts.fill("retrieve", category=category, world="(empty)\n"))
    d.assistant("Search for %s." % base, calls=[Call("search", {"query": base})])
    n = r.randint(1, 6)
    at = r.choices(range(n), [3.0 / (1 + i) ** 1.5 for i in range(n)])[0]
    hits = [s if i == at else _distractor(r) for i in range(n)]
    for h in hits:
        if h is not s and r.random() < 0.25:  # shares a word, but is a page without data
            h.words = [words[0]] + h.words[1:]
    d.results([page("".join("%d. %s\n   %s\n   %s\n" % (i + 1, h.address, h.title, h.snippet(r)) for i, h in enumerate(hits)))])
    u = r.random()
    if u < 0.08 and n > 1:
        bad = next(h for h in hits if h is not s)
        error = r.choice(("error: %s: the server answers 404" % bad.address, "%s\nbinary, %d bytes: it can't be read\n" % (bad.address, r.randint(1000, 99999)),
                          "error: robots.txt of the host forbids %s" % bad.address, "%s\ntitle: %s\ntext:\n%s\n" % (bad.address, bad.title, W.sentence(r))))
        d.assistant("Fetch %s." % bad.name, calls=[Call("fetch", {"address": bad.address}, skip=True)], loss=False)
        d.results([error])
        d.assistant("No table there. Fetch %s." % s.name, calls=[Call("fetch", {"address": s.address})])
    else:
        d.assistant("Hit %d: fetch %s." % (at + 1, s.name), calls=[Call("fetch", {"address": s.address})])
    d.results([page(s.fetched(r))])
    into = fold(re.sub(r"\.\w+$", "", s.name))
    keep = _keep(r, s)
    note = "%s, %s" % (s.kind, "keep " + ", ".join(s.headers[i] for i in keep) if keep else "keep all")
    if keep and r.random() < 0.06:
        a = s.arguments(r, into, keep)
        i = r.randrange(len(keep))
        bad = a["columns"][i] + r.choice(("s", "x", " name"))
        a["columns"] = a["columns"][:i] + [bad] + a["columns"][i + 1:]
        d.assistant(note + ".", calls=[Call("import_table", a, skip=True)], loss=False)
        d.results([page("error: there is no column '%s'; the columns are: %s" % (bad, ", ".join(s.headers)))])
        note = "Mend the columns: " + ", ".join(s.headers[i] for i in keep)
    d.assistant(note + ".", calls=[Call("import_table", s.arguments(r, into, keep))])
    t, result = s.imported(into, keep)
    d.results([page(result)])
    d.assistant("", "The world is ready: %s." % into)
    d.meta = {"table": t}
    return d
