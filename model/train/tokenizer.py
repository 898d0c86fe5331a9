"""The tokenizer: byte-level BPE in which the protocol's fixed phrases are words.

usage: tokenizer.py OUT.json [n_worlds] (writes a Hugging Face tokenizer.json)

Text is cut by one regular expression: known phrases first (longest wins), then runs
of letters, single digits, single other characters. A phrase that is a word of the
vocabulary is taken whole (`ignore_merges`), so "</result>\\n<result>" is one id, and
what a model must copy (names, values) is spelled the same wherever it stands: no
piece carries a leading space except the small words of prompts.
"""
import json
import re
import sys

import encoding as E
import wordings

VOCAB = 2048
WORDS = """the of with in row rows by is are value values how many which what that has have and from to at for whose where number
numbers count highest lowest largest smallest first last ties order sorted total sum mean average rounded decimals different
distinct most common place position missing begins starts start longest characters length between both included same itself
difference minus less plus more common group it all every on as not no over this than each one when their its""".split()

LUA = ['tool{ name = "', '", description = "', '", params = [[{"type": "object", "properties": {"', '", params = [[{"type": "object", "properties": {}}]], returns = [[',
       '}, "required": ["', '"]}]], returns = [[', '{"type": "integer"}]], run = function(world, a)\n  return world:value("SELECT ',
       '{"type": "number"}]], run = function(world, a)\n  return world:value("SELECT ', '{"type": "string"}]], run = function(world, a)\n  return world:value("SELECT ',
       '{"type": "array", "items": {"type": "object"}}]], run = function(world, a)\n  return world:rows("SELECT ',
       '{"type": "object"}]], run = function(world, a)\n  return world:row("SELECT ', '", a.', ', a.', ')\nend }', '")\nend }',
       'check{ name = "', '", text = [[', ']], run = function(world, answer, changes)\n  return answer.', ']], run = function(world, answer, changes)\n  local want = {}\n  for i, row in ipairs(world:rows("SELECT ',
       ')) do want[i] = row.', ' end\n  return same(answer.', ', want)\nend }', ' == world:value("SELECT ', ') - world:value("SELECT ', ') + world:value("SELECT ',
       'return function(tools)\n  local ', '\n  local ', ' = tools.', ' - tools.', ' + tools.', '{n = ', '}[', '}[1].', '}.', ' = ', ' = {}\n  for i, row in ipairs(tools.',
       '}) do ', '[i] = row.', ' end\n', '\n  return {', '}\nend', ' = 0\n  for _, row in ipairs(tools.', ' + row.', '  local rows = tools.', ' = rows[1]\n  for _, row in ipairs(rows) do\n    if row.',
       ' then ', ' = row end\n  end\n  ', '.highest - ', '.lowest', ', "', '"', '", "', "{}"]
SQL = [" FROM ", " WHERE ", " = ?", " ORDER BY ", " LIMIT ?", " LIMIT 1", " OFFSET ? - 1", " DESC, ", " DESC", " IS NOT NULL", " IS NULL", " GROUP BY ", " LIKE ? || '%'", " AND ",
       "COUNT(*) FROM ", "COUNT(*)", "COUNT(DISTINCT ", "ROUND(AVG(", "ROUND(SUM(", "), 2)", ") FROM ", "SUM(", "AVG(", "MAX(", "MIN(", "LENGTH(", " (SELECT ", "SELECT ", " >= ? AND ", " <= ?", " > (SELECT ",
       " + 1 FROM ", ", COUNT(*) AS n FROM ", " ORDER BY n DESC, ", " AS length FROM ", " ORDER BY length DESC, ", " IS NOT NULL GROUP BY ", " IS NOT NULL ORDER BY ", " ORDER BY COUNT(*) DESC, ",
       " AS total, ", " AS mean, ", " AS lowest, ", " AS highest FROM ", " b JOIN ", " a ON a.", " = b.", " WHERE a.", " WHERE b.", "SELECT a.", " IN (SELECT ", " ORDER BY LENGTH(", ") DESC, ", ") - MIN("]
JSON = ['{"name": "', '", "parameters": {"type": "object", "properties": {"', '", "parameters": {"type": "object", "properties": {}}}', '": {"type": "string"}', '": {"type": "integer"}', '": {"type": "number"}',
        ', "', '"]}}\n', '"]}}', '}, "required": ["', '"]}', '{"type": "object", "properties": {"', '{"', '": ', '": "', '"}', '"}, {"', '[{"', '"}]', '"]', '["', '}, {"', '}]',
        '": {"type": "array", "items": {"type": "string"}}', '": {"type": "array", "items": {"type": "integer"}}']
WORLD = ["table ", " rows, key ", "\n- ", " INTEGER: ", " TEXT: ", " REAL: ", " values, like ", " values, ", " values: ", " values\n", " to ", " missing\n- ", " missing\nrows:\n", "\nrows:\n", "\ntable ", " | ", " | null",
         "), ", " (", ")\n", ")\n- ", ")\nrows:\n", ") -> ", ": string", ": integer", ": number", "integer: ", "number: ", "string: ", "object: ", "array of object: ", ", ", ": ", ".\n- ", ".\n", ".", ";", "; ",
         "prompt: ", "\nanswer_schema: ", "\nsolution:\n", "\nverifier:\n", "The task of level ", " from ", "_by_", "_of_", "_with_", "_", "ok: ", "error: ", "\n\n", "\n", " ", "\n\nAnswer schema: ", "Category: ", "\n\nWorld:\n", "(empty)\n",
         "; key ", ": key ", "; names ", "; groups ", "; numbers ", "\nTools: ", "Look up ", "Then ", "Level ", " asks one more:\n", " asks this:\n", " asks more:\n", "The tools suffice.", "Tasks that exist already:\n- ",
         "Number of ", "Rows of ", "The row of ", " with this ", " have this ", "The n rows of ", " with the highest ", " with the lowest ", "First n of ", " highest first: ", " lowest first: ", " and its number n of rows, most first.", "How many rows of ",
         " (ties: first ", "minus the ", "- ", "* ", " values;", " rounded to 2 decimals"]
TURNS = ["\n\n<", "<", "</", "function_calls>\n<", "function_calls>", 'invoke name="', '">\n<', 'parameter name="', '" string="true">', '" string="false">', "parameter>\n<", "parameter>\n</", "invoke>\n<", "invoke>\n</",
         "\n\n<function_results>\n<result>", "</result>\n<result>", "</result>\n</function_results>\n\n", 'invoke name="define_tool">\n<', 'parameter name="source" string="true">', 'invoke name="propose_task">\n<',
         'parameter name="prompt" string="true">', 'parameter name="answer_schema" string="false">', 'parameter name="solution" string="true">return function(tools)\n  local ', 'parameter name="verifier" string="true">check{ name = "',
         'invoke name="submit_result">\n<', 'parameter name="answer_text" string="true">{"', 'invoke name="search">\n<', 'parameter name="query" string="true">', 'invoke name="fetch">\n<', 'parameter name="address" string="true">',
         'invoke name="import_table">\n<', 'parameter name="into" string="true">', 'parameter name="format" string="true">', 'parameter name="at" string="false">', 'parameter name="at" string="true">', 'parameter name="columns" string="false">[',
         'parameter name="delimiter" string="true">', 'parameter name="comment" string="true">', 'parameter name="n" string="false">', 'parameter name="place" string="false">']
RETRIEVE = ["http://", "https://", ".csv", ".json", ".tsv", ".html", "\n   ", "csv, ", "tsv, ", "json\narray ", " rows, ", " columns\n", " items, ", "title: ", "text:\n",
            "links:\n[1] ", "tables:\n[1] ", " rows: ", " TEXT", " INTEGER", " REAL", " TEXT from ", " INTEGER from ", " REAL from ", "- row_id INTEGER added\n", "127.0.0.1", "localhost", "no hits\n", "\n... page ", '; the next: "more": ']
# Words of the first vocabulary that hid where an address begins and ends: their rows stay, text is not cut so any more.
RETIRED = [". http://", ". https://", ". doc:", ".csv\n", ".json\n", ".html\n"]


def constants():
    """The long texts that every conversation shares: the tools block, prompt files, the author's tools."""
    import stages
    p = stages.Prompts()
    out = [s for part in E._BLOCK for c, s in part if not c]
    out += [p.text["author"] + "\n\n## Tools\n\nYou have access to a set of tools you can use to answer the user's question.\nYou can invoke functions by writing a \"<",
            p.text["solver"] + "\n\n## Tools\n\nYou have access to a set of tools you can use to answer the user's question.\nYou can invoke functions by writing a \"<"]
    out += list(p.tools.values())
    for name in ("retrieve", "tools", "level"):
        out += [s for s in re.split(r"\{\{\w+\}\}", p.text[name]) if len(s) > 12]
    out.append(" that is harder than the one above: one more thing is asked, or more calls are needed")
    return [s for s in out if len(s) > 3]


def phrases():
    s = set(constants() + LUA + SQL + JSON + WORLD + TURNS + RETRIEVE + [" " + w for w in WORDS])
    return sorted(s, key=lambda x: (-len(x), x))


def _escape(s):
    return re.sub(r"([\\^$.|?*+()\[\]{}\-])", r"\\\1", s).replace("\n", "\\n")


def pattern(ps):
    words = {" " + w for w in WORDS}
    alts = [_escape(p) + (r"(?![\p{L}\p{M}])" if p in words else "") for p in ps]
    return "|".join(alts) + r"|[\p{L}\p{M}]+|\p{N}|[\s\S]"


def byte_table():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + n)
            n += 1
    return table


class Tokenizer:
    """Text to ids as the engine does it; a cache of pieces makes it fast enough for training."""

    def __init__(self, path):
        import regex
        import tokenizers
        with open(path, encoding="utf-8") as f:
            self.spec = json.load(f)
        self.control = {t["content"]: t["id"] for t in self.spec["added_tokens"]}
        plain = dict(self.spec, added_tokens=[])
        self.hf = tokenizers.Tokenizer.from_str(json.dumps(plain))
        self.size = max([i for i in self.spec["model"]["vocab"].values()] + list(self.control.values())) + 1
        self.cut = regex.compile(self.spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
        self.cache = {}
        self.text_of = {v: k for k, v in self.spec["model"]["vocab"].items()}
        self.bytes_of = {c: b for b, c in byte_table().items()}

    def encode(self, text):
        out, cache = [], self.cache
        for piece in self.cut.findall(text):
            ids = cache.get(piece)
            if ids is None:
                ids = self.hf.encode(piece, add_special_tokens=False).ids
                if len(cache) < 400000:
                    cache[piece] = ids
            out += ids
        return out

    def decode(self, ids):
        names = {v: k for k, v in self.control.items()}
        out = b""
        for i in ids:
            out += names[i].encode() if i in names else bytes(self.bytes_of[c] for c in self.text_of.get(i, ""))
        return out.decode("utf-8", "replace")


def train(texts, out, vocab=VOCAB):
    """texts: iterable of text between control tokens."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers
    import regex
    rx = pattern(phrases())
    ps = sorted(set(phrases() + RETIRED), key=lambda x: (-len(x), x))
    known, cut = set(ps), regex.compile(rx)
    counts = {}
    for t in texts:
        for piece in cut.findall(t):
            if piece not in known:
                counts[piece] = counts.get(piece, 0) + 1
    table = byte_table()
    alphabet = [table[b] for b in range(256)]
    tk = tokenizers.Tokenizer(models.BPE())
    tk.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    n_merged = vocab - len(E.CONTROL) - len([p for p in ps if len(p.encode()) > 1])
    trainer = trainers.BpeTrainer(vocab_size=n_merged, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    # a word's own frequency is damped: rare words teach the pieces that copying needs
    tk.train_from_iterator((w for w, n in counts.items() for _ in range(1 + int(n ** 0.6))), trainer)
    learned = json.loads(tk.to_str())["model"]
    order = sorted(learned["vocab"], key=lambda w: learned["vocab"][w])
    mapped = ["".join(table[b] for b in p.encode()) for p in ps]
    vocab_list = E.CONTROL + order + [m for m in mapped if m not in learned["vocab"]]
    vocab_ids = {w: i for i, w in enumerate(vocab_list)}
    spec = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                             for i, c in enumerate(E.CONTROL)],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": rx}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                      "byte_fallback": False, "ignore_merges": True,
                      "vocab": vocab_ids, "merges": learned["merges"]}}
    with open(out, "w", encoding="utf-8") as f:
        json.dump(spec, f, ensure_ascii=False, indent=0)
    return len(vocab_list)


def main(out, tables, n_worlds=400):
    import random

    import retrieve
    import stages
    import world as Wd
    r, real, prompts = random.Random(11), Wd.Real(tables), stages.Prompts()

    def texts():
        for _ in range(int(n_worlds)):
            w = Wd.make_world(r, real)
            for d in stages.world_docs(r, prompts, w, Wd.View) + [retrieve.retrieve_doc(r, prompts, real)]:
                if d:
                    for c, text, _ in d.pieces:
                        if not c:
                            yield text
    print(train(texts(), out), "words in", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
