"""Tables that training never saw, as a job for `agon synth`.

usage: heldtables.py WEB HELDOUT.txt N SEED OUT

WEB is a mirror with csv/PACKAGE/NAME.csv and, for the titles, package/PACKAGE.html, whose table
rows are: link to NAME.html, title, rows, columns, link. N random tables of the packages in HELDOUT.txt go to OUT/csv, and
OUT/categories.txt names each by its title. Tables below 10 or above 5,000 rows, and those with
a file name that another table has, are left out. Then:

    agon synth general --corpus CORPUS --categories OUT/categories.txt --source OUT/csv --lines 1
    toolcheck.py build/tests/tools/gatecheck CORPUS
"""
import html
import os
import random
import re
import shutil
import sys


def main(web, heldout, n, seed, out):
    held, seen, found = set(open(heldout).read().split()), set(), []
    for package in sorted(held):
        page = os.path.join(web, "package", package + ".html")
        if not os.path.exists(page):
            continue
        for item, title in re.findall(r'<tr><td><a [^>]*>([^<]*)</a></td><td>([^<]*)</td>', open(page, encoding="utf-8").read()):
            path = os.path.join(web, "csv", package, item + ".csv")
            if item.lower() in seen or not os.path.exists(path):
                continue
            with open(path, "rb") as t:
                lines = sum(1 for _ in t) - 1
            if 10 <= lines <= 5000:
                seen.add(item.lower())
                found.append((item, " ".join(html.unescape(title).split()), path))
    os.makedirs(os.path.join(out, "csv"), exist_ok=True)
    with open(os.path.join(out, "categories.txt"), "w", encoding="utf-8") as f:
        for item, title, path in sorted(random.Random(int(seed)).sample(found, int(n))):
            name = "".join(c if c.isascii() and c.isalnum() else "_" for c in item.lower()).strip("_")
            f.write("t_%s: %s (%s)\n" % (name, title[:120], item))
            shutil.copy(path, os.path.join(out, "csv", item + ".csv"))
    print("%d of %d tables" % (int(n), len(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
