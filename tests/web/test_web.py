#!/usr/bin/env python3
"""One category synthesised from a real site by crawling it: agon synth, verify, solve, show.

Usage: test_web.py AGON SOURCE_ROOT; speaks TAP. The author's turns were written by a
person who worked through exec: (cars93.json), mistakes included; the solver is a program.
"""
import os
import re
import shutil
import sys
import tempfile

agon, root = sys.argv[1], sys.argv[2]
sys.path[:0] = [os.path.join(root, "tests"), os.path.join(root, "tests", "web")]
import website as web  # noqa: E402
from tap import check, finish, skip  # noqa: E402
from tap import run as run_program  # noqa: E402

here = os.path.join(root, "tests", "web")
tmp = tempfile.mkdtemp(prefix="agon-webtest-")


def run(*args):
    return run_program([agon, *args])


def main():
    try:
        site = web.Site(root)
    except web.Missing as why:
        return skip("a category from a real site", why)
    try:
        tests(site)
    finally:
        site.stop()
        shutil.rmtree(tmp)


def tests(site):
    corpus = os.path.join(tmp, "corpus")
    play = "exec+lines:python3 %s" % os.path.join(here, "play.py")
    done = run("synth", "general", "--corpus", corpus, "--category", "cars93: cars on sale in the USA in 1993",
               "--source", site.url + "/", "--allow-host", site.host, "--crawl-pages", "3000",
               "--author", "%s author %s %s" % (play, os.path.join(here, "cars93.json"), site.url),
               "--solver", play + " solver 0.15", "--levels", "5", "--lines", "1", "-v")
    if not check(done.returncode == 0, "agon synth crawls the site and finishes", done.stdout + done.stderr):
        return
    pages = len(site.requests())
    check(pages > 2000, "the whole site was crawled", "%d requests" % pages)
    check(not any("/private/" in r for r in site.requests()), "nothing that robots.txt forbids was asked for")
    check(sum("/csv/" in r for r in site.requests()) == 1, "of the data files only the one that the author fetched")
    check(re.search(r"5 of 5 tasks kept", done.stdout), "five levels are kept", done.stdout + done.stderr)

    verified = run("verify", corpus)
    check(verified.returncode == 0, "agon verify passes the corpus", verified.stdout + verified.stderr)
    listed = run("ls", corpus)
    check("cars93" in listed.stdout, "agon ls shows it", listed.stdout + listed.stderr)
    log = run("log", corpus)
    check("gate" in log.stdout, "agon log tells the refusals", log.stdout[:2000] + log.stderr)

    env = next(os.path.join(d, "") for d, _, files in os.walk(corpus) if "tools.lua" in files and "work" not in d)
    with open(os.path.join(env, "tools.lua"), "a") as f:
        f.write("\n")
    verified = run("verify", corpus)
    check(verified.returncode != 0 and "tools.lua" in verified.stdout + verified.stderr,
          "an altered file is named and fails the corpus", verified.stdout + verified.stderr)


main()
finish()
