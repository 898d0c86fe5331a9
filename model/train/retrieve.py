"""The retrieve stage: search, fetch, import_table over a small pseudo web.

Documents are CSV, TSV, JSON, HTML pages with tables, and white-space tables with
comments; what search, fetch and import_table answer is written as synth/retrieval
writes it (document.c, index.c, import.c).
"""
import json
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


ACRONYMS = "ISO IANA UN EU WHO NATO IEC ITU FAO RFC IEEE ANSI UNESCO OECD".split()


class Topic:
    """What a category is about: its words in text, and as parts of a file's name."""

    def __init__(self, r, name=None):
        self.title = ""
        if name:  # that of a table
            self.words = [x for x in name.split("_") if x] or [name]
            self.query, self.stem = " ".join(self.words), name
            return
        if r.random() < 0.3:
            self._titled(r)
            return
        w = lambda: W.word(r) if r.random() < 0.5 else r.choice(W.SEED)
        u = r.random()
        if u < 0.25:
            number = str(r.randint(1, 9999)) + ("-%d" % r.randint(1, 9) if r.random() < 0.5 else "")
            acronym = r.choice(ACRONYMS) if r.random() < 0.5 else "".join(r.choice("ABCDEFGHIKLMNOPRSTUW") for _ in range(3))
            tail = [w() for _ in range(r.choice((1, 1, 2)))]
            self.query, self.stem = " ".join([acronym, number] + tail), acronym.lower() + "_" + number
            self.words = [acronym, number] + tail
        else:
            self.words = [w() for _ in range(r.choice((1, 2, 2, 3)))]
            if r.random() < 0.25:
                self.words[0] = self.words[0].capitalize()
            self.query = " ".join(self.words)
            self.stem = r.choice(("_", "-", "")).join(x.lower() for x in self.words[:2])

    def _titled(self, r):
        """The title of a data set, most often with its name behind it: "Do Birds Sing? (4 Months) (birdSong4)". Words come twice."""
        self.title, words = W.title(r)
        some = words[:r.choice((1, 2, 2, 3))]
        camel = "".join(w.capitalize() for w in some)
        self.stem = r.choice((camel, camel, camel[0].lower() + camel[1:], "".join(some), "_".join(some), ".".join(some), W.word(r), W.stutter(r)))[:30]
        self.stem += r.choice(("", "", "", str(r.randint(1, 9)), "_ts", ".df", str(r.randint(1960, 2024))))
        self.words = words
        self.named = r.random() < 0.75
        said = re.sub(r"[^\w -]", "", self.title).split(" ")[:r.choice((4, 5, 6))]
        self.query = " ".join(said + [self.stem] if self.named else said)

    def second(self, r):
        """What to search for where the first words found nothing."""
        if self.title and self.named:
            return self.stem
        return max(self.words, key=len) if len(self.words) > 1 else self.words[0] + " data"

    def category(self, r):
        if self.title:
            return self.title + (" (%s)" % self.stem if self.named else "")
        q = self.query
        if r.random() < 0.5:
            return q
        return r.choice(("%s planning", "%s data", "records of %s", "%s and statistics", "%s registry", "facts on %s", "%s survey", "choose among %s", "study of %s",
                         "%s in numbers", "%s of the world", "planning with %s", "%s and their codes")) % q


class Source:
    """A table as a document: its address, title, kind, and how it is imported."""

    def __init__(self, r, table, topic):
        self.table, self.topic = table, topic
        cols = [c for c in table.columns if c.name != "row_id"]
        self.kind = r.choices(("csv", "tsv", "json", "html", "text"), (5, 2, 3.5, 1.2, 0.7))[0]
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
        stem = topic.stem
        if r.random() < 0.2:  # a name that shares a word with the topic, more or less: zone1970 for time zones
            stem = max((x.lower() for x in topic.words), key=len)
            stem = r.choice((stem, stem[:-1], stem[:5], stem + "s")) + r.choice(("", str(r.randint(1, 2024)), "_" + W.word(r)))
        if r.random() < 0.1:
            stem = stem.capitalize()
        if r.random() < 0.15:
            stem += r.choice("_-") + str(r.randint(1, 2024))
        self.stem = stem or "data"
        ext = {"csv": ".csv", "tsv": r.choice((".tsv", ".tab", ".tab")), "json": ".json", "html": ".html", "text": r.choice(("", ".txt", ""))}[self.kind]
        u = r.random()
        base = W.word(r)
        self.local = u >= 0.5
        if u < 0.35:
            root = "http://%s:%d/" % (r.choice(("127.0.0.1", "localhost")), r.randint(1024, 65535))
            path = r.choice(("csv/%s/" % base, "csv/%s/" % base, "data/", "%s/" % base, "doc/%s/" % base, ""))
        elif u < 0.5:
            root, path = "https://%s%s.%s/" % (r.choice(("", "www.", "data.")), base, r.choice(("org", "com", "net", "gov", "edu"))), r.choice(("", "tables/", "data/%s/" % W.word(r)))
        else:
            root, path = "doc:", r.choice(("", "", "", "json/", "etc/", "%s-%s/" % (base, W.word(r)), "share/%s/" % base, "%s_%s/" % (base, W.word(r)), "%s/" % base, "data/%s/" % base))
        self.address = root + path + self.stem + ext
        self.name = self.stem + ext
        words = " ".join(x if r.random() < 0.5 else x.capitalize() for x in topic.words)
        if self.kind == "html":
            self.title = words + r.choice((" - " + W.word(r), "", " table"))
        elif self.local:
            self.title = self.name if path else self.address
        else:  # the row of the list in which the link stands
            self.title = r.choice((self.stem + " ", "")) + words + " " + W.word(r) + r.choice((" %d %d CSV" % (table.n, len(cols)), "", " data"))
        self.pointer_key = r.choice(("", W.word(r), self.stem.split("_", 1)[-1], self.stem.split("_", 1)[-1], "data", "items", str(r.randint(100, 9999))))
        self.comment = "".join("# %s\n" % W.sentence(r) for _ in range(r.choice((0, 2, 6)))) if self.kind == "tsv" and r.random() < 0.4 else ""

    def body(self, r):
        """The beginning of the file."""
        rows = list(zip(*[c.values for c in self.cols]))[:8]
        if self.kind == "json":
            items = [{h: v for h, v in zip(self.headers, row) if v is not None} for row in rows]
            return json.dumps({self.pointer_key: items} if self.pointer_key else items, ensure_ascii=False, indent=r.choice((1, 2, 4)))
        if self.kind == "html":
            return self.title + " " + " ".join(W.sentence(r) for _ in range(4))
        sep = {"csv": ",", "tsv": "\t", "text": "  "}[self.kind]
        head = self.comment + ("#" if self.comment or self.kind == "text" else "") + sep.join(self.headers)
        return head + "\n" + "\n".join(sep.join(map(self.cell, row)) for row in rows)

    def snippet(self, r, query):
        """What a hit shows: a data file's first columns, of other documents the text around a word."""
        if self.kind in ("csv", "tsv", "json") and (self.local or r.random() < 0.5):
            return " ".join(self.headers[:6]) + " …"
        if not self.local and self.kind != "html":
            return self.title[:160]
        text, at = self.body(r), -1
        for q in query.split(" "):
            if len(q) > 2 and at < 0:
                at = text.lower().find(q.lower())
        start = max(0, at - 53) if at > 53 else 0
        if r.random() < 0.3:
            start = r.randint(0, max(0, len(text) - 160))
        return "".join(" " if c.isspace() else c for c in text[start:start + 160])

    def cell(self, v):
        return "" if v is None else v if isinstance(v, str) else repr(v)

    def fetched(self, r):
        t, out = self.table, self.address + "\n"
        rows = list(zip(*[c.values for c in self.cols]))
        if self.kind in ("csv", "tsv"):
            out += "%s, %d rows, %d columns\n%s\n" % (self.kind, t.n, len(self.cols), " | ".join(self.headers))
            return out + "".join(" | ".join(map(self.cell, row)) + "\n" for row in rows[:3])
        if self.kind == "json":
            pointer = self.pointer = "/" + self.pointer_key if self.pointer_key else ""
            item = {h: v for h, v in zip(self.headers, rows[0]) if v is not None}
            text = json.dumps(item, ensure_ascii=False)
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
        out += "text\n" + self.comment + "".join("# %s\n" % W.sentence(r) for _ in range(r.randint(0, 5)))
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


def _distractor(r, topic):
    """Another document; now and then one that shares a word, or a page about the very topic without data."""
    other = Topic(r)
    if r.random() < 0.4:  # of the same house: ISO 4217 and ISO 639-3
        other.words = [topic.words[0]] + other.words[1:]
        if "_" in topic.stem:
            other.stem = topic.stem.split("_")[0] + "_" + str(r.randint(1, 9999)) + r.choice(("", "", "-%d" % r.randint(1, 9)))
    s = Source(r, Wd.pseudo_table(r), other)
    if r.random() < 0.25:
        s.kind, s.local = "html", False
        s.topic, s.name = topic, W.word(r) + ".html"
        s.address = "http://%s:%d/doc/%s/%s" % (r.choice(("127.0.0.1", "localhost")), r.randint(1024, 65535), W.word(r), s.name)
        s.title = "R: " + " ".join(w.capitalize() for w in topic.words) + " " + W.word(r)
    return s


def _listing(r, s):
    """A page that lists data files, s among them: (address, title, result of fetch)."""
    root = s.address[:s.address.index("/", 8)] if "://" in s.address else "https://%s.org" % W.word(r)
    base = W.word(r)
    address = "%s/%s/%s.html" % (root, r.choice(("package", "data", "index")), base)
    n = r.randint(1, 8)
    at = r.randrange(n)
    links = []
    for i in range(n):
        other = s if i == at else _distractor(r, s.topic)
        if other.kind == "html":
            other.kind = "csv"
            other.address = "%s/csv/%s/%s.csv" % (root, base, W.word(r))
        links.append("[%d] %s %s\n" % (i + 1, other.address, other.title))
    title = "Data sets of the package " + base
    return address, title, "%s\ntitle: %s\ntables:\n[1] %d rows: Data set | Title | Rows | Columns | Data\nlinks:\n%stext:\n%s\n" % (address, title, n, "".join(links), W.sentence(r))


def _mistake(r, s, a, into, keep):
    """An import that goes wrong: (arguments, error, what to mend)."""
    a, u = dict(a), r.random()
    if keep and u < 0.35:
        i = r.randrange(len(keep))
        bad = a["columns"][i] + r.choice(("s", "x", " name"))
        a["columns"] = a["columns"][:i] + [bad] + a["columns"][i + 1:]
        return a, "error: there is no column '%s'; the columns are: %s" % (bad, ", ".join(s.headers)), "Mend the columns: " + ", ".join(s.headers[i] for i in keep)
    if u < 0.7:
        stem = re.sub(r"\.\w+$", "", s.name)
        bad = r.choice((stem if fold(stem) != stem else stem.capitalize(), stem[:1].lower() + stem[1:-1] + stem[-1:].upper(), stem.replace("_", "-") + "-", into + "-data", "%s/%s" % (W.word(r), into), into.capitalize(), into.replace("_", " ") + " x"))
        a["into"] = bad
        return a, "error: into: '%s' is no name: use a lower-case letter, then letters, digits and _" % bad, "Mend the name: " + into
    bad = r.choice(("1" + s.address, s.name, s.address + "x", s.address.replace(".", "", 1), "/" + s.name))
    a["source"] = bad
    return a, "error: there is no document '%s'; fetch reads addresses that search or a link gave" % bad, "Mend the source: " + s.address


def retrieve_doc(r, prompts, real):
    table = _table(r, real)
    topic = Topic(r, table.name if r.random() < 0.35 else None)
    if len([c for c in table.columns if c.name != "row_id"]) < 2:
        return None
    s = Source(r, table, topic)
    d = Document("retrieve")
    prompts.author(d, "search", "fetch", "bash", "import_table")
    d.user(prompts.fill("retrieve", category=topic.category(r), world="(empty)\n"))
    query = topic.query
    d.assistant("Search for %s." % query, calls=[Call("search", {"query": query})])
    if r.random() < 0.12:
        d.results(["no hits\n"])
        query = topic.second(r)
        d.assistant("No hits. Search for %s." % query, calls=[Call("search", {"query": query})])
    n = r.randint(1, 6)
    at = r.choices(range(n), [3.0 / (1 + i) ** 1.5 for i in range(n)])[0]
    listing = _listing(r, s) if s.kind != "html" and r.random() < 0.12 else None
    hits = []
    for i in range(n):
        h = s if i == at else _distractor(r, topic)
        if i == at and listing:
            hits.append((listing[0], listing[1], W.sentence(r)))
        elif listing and h.kind != "html":
            continue
        else:
            hits.append((h.address, h.title, h.snippet(r, query)))
    where = [h[0] for h in hits].index(listing[0] if listing else s.address)
    d.results([page("".join("%d. %s\n   %s\n   %s\n" % ((i + 1,) + h) for i, h in enumerate(hits)))])
    others = [h for h in hits if h[0] != hits[where][0]]
    go = "Hit %d: fetch %s." % (where + 1, hits[where][0].rsplit("/", 1)[-1].removeprefix("doc:"))
    if others and r.random() < 0.08:
        bad = r.choice(others)[0]
        error = r.choice(("error: %s: the server answers 404" % bad, "%s\nbinary, %d bytes: it can't be read\n" % (bad, r.randint(1000, 99999)),
                          "error: robots.txt of the host forbids %s" % bad, "%s\ntitle: %s\ntext:\n%s\n" % (bad, W.word(r), W.sentence(r))))
        d.assistant("Fetch it.", calls=[Call("fetch", {"address": bad}, skip=True)], loss=False)
        d.results([error])
        go = "No table there. " + go
    d.assistant(go, calls=[Call("fetch", {"address": hits[where][0]})])
    if listing:
        d.results([page(listing[2])])
        d.assistant("The link to %s." % s.name, calls=[Call("fetch", {"address": s.address})])
    d.results([page(s.fetched(r))])
    into = fold(re.sub(r"\.\w+$", "", s.name))
    keep = _keep(r, s)
    a = s.arguments(r, into, keep)
    note = "%s, table %s, %s" % (s.kind, into, "keep " + ", ".join(s.headers[i] for i in keep) if keep else "keep all")
    if r.random() < 0.12:
        wrong, error, note2 = _mistake(r, s, a, into, keep)
        d.assistant(note + ".", calls=[Call("import_table", wrong, skip=True)], loss=False)
        d.results([page(error)])
        note = note2
    d.assistant(note + ".", calls=[Call("import_table", a)])
    t, result = s.imported(into, keep)
    d.results([page(result)])
    d.assistant("", "The world is ready: %s." % into)
    d.meta = {"table": t}
    return d
