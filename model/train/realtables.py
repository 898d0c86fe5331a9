"""Sample real tables from a mirror of CSV files into one compact file.

usage: realtables.py CSV_DIR HELDOUT.txt OUT.json.gz

Packages named in HELDOUT.txt are left out. Names are folded and columns typed as
import_table does it (synth/import.c), so that a sampled table is what an author
would have in its world.
"""
import csv
import gzip
import json
import os
import random
import re
import sys

import words as W

MISSING = {"", "NA", "N/A", "NULL", "null", "NaN", "nan", "None", "\\N"}
ROWS_MAX, COLUMNS_MAX = 240, 10


def fold(header, used):
    name = re.sub(r"[^0-9a-zA-Z]+", "_", header).strip("_").lower()[:40]
    if name[:1].isdigit():
        name = "c_" + name
    name = name or "col"
    if name in W.RESERVED:
        name += "_"
    base, k = name, 2
    while name in used or name == "row_id":
        name, k = "%s_%d" % (base, k), k + 1
    used.add(name)
    return name


def typed(values):
    texts = [v for v in values if v is not None]
    if texts and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", v) for v in texts):
        return "INTEGER", [None if v is None else int(v) for v in values]
    if texts and all(re.fullmatch(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", v) and len(v) < 40 for v in texts):
        return "REAL", [None if v is None else float(v) for v in values]
    return "TEXT", values


def read(path, r):
    with open(path, newline="", encoding="utf-8", errors="replace") as f:
        rows = []
        for i, row in enumerate(csv.reader(f)):
            rows.append(row)
            if i > 4000:
                break
    head, rows = rows[0], [x for x in rows[1:] if len(x) == len(rows[0])]
    if len(rows) < 6 or len(head) < 2:
        return None
    if len(rows) > ROWS_MAX:
        at = r.randint(0, len(rows) - ROWS_MAX)
        rows = rows[at:at + ROWS_MAX]
    keep = [0] + sorted(r.sample(range(1, len(head)), min(COLUMNS_MAX - 1, len(head) - 1)))
    used, cols = set(), []
    for i in keep:
        kind, values = typed([None if x[i] in MISSING else x[i][:160] for x in rows])
        cols.append([fold(head[i], used), kind, values])
    return cols


def main(src, heldout, out):
    r, tables = random.Random(7), []
    held = set(open(heldout).read().split())
    for package in sorted(os.listdir(src)):
        if package in held:
            continue
        for name in sorted(os.listdir(os.path.join(src, package))):
            cols = read(os.path.join(src, package, name), r)
            if cols:
                tables.append({"name": fold(name[:-4], set()), "package": package, "columns": cols})
    with gzip.open(out, "wt", compresslevel=9) as f:
        json.dump(tables, f, separators=(",", ":"), ensure_ascii=False)
    print(len(tables), "tables,", os.path.getsize(out), "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
