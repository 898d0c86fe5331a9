#!/usr/bin/env python3
"""A secret is planted where a driver may have one; a whole run's bash and Lua look for it; it is in
nothing that the run leaves. Usage: test_canary.py AGON SOURCE_ROOT; speaks TAP.
"""
import base64
import http.server
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading

agon, root = os.path.abspath(sys.argv[1]), sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
sys.path.insert(0, os.path.join(root, "tests/attacks"))
from tap import check, finish, kept, run  # noqa: E402

secret = "canary-" + secrets.token_hex(12)
tmp = tempfile.mkdtemp(prefix="agon-canary-")
plants = os.path.join(tmp, "plants")
corpus = os.path.join(plants, "corpus")


def plant():
    os.makedirs(os.path.join(plants, "home/.ssh"))
    for name in ("secret.txt", "home/.netrc", "home/.ssh/id", "home/.bashrc", "secret.csv"):
        with open(os.path.join(plants, name), "w") as f:
            f.write("name,value\n%s,1\n%s,2\n" % (secret, secret))
    db = sqlite3.connect(os.path.join(plants, "secret.db"))
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (?)", (secret,))
    db.commit()
    db.close()


class Page(http.server.BaseHTTPRequestHandler):
    hits = 0

    def do_GET(self):
        Page.hits += self.path != "/robots.txt"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(secret.encode())

    def log_message(self, *args):
        pass


def shapes(text):
    """The secret as it is, and as it may have been dressed."""
    b = text.encode()
    yield from (b, b[::-1], b.hex().encode(), b.hex().upper().encode(), text.encode("utf-16le"), b[7:], b[7:][::-1])
    for shift in range(3):  # whatever stands before it
        yield base64.b64encode(b"\0" * shift + b)[4:-4]


def places(folder):
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    data = f.read()
                if any(s in data or s in path.encode() for s in shapes(secret)):
                    yield path


plant()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
held = os.open(os.path.join(plants, "secret.txt"), os.O_RDONLY)
os.set_inheritable(held, True)
environment = dict(os.environ, AGON_TEST_SECRET=secret, AGON_API_KEY=secret, HOME=os.path.join(plants, "home"),
                   SSH_AUTH_SOCK=secret)
command = [agon, "synth", "general", "--corpus", corpus, "--category", "cars: road tests of cars",
           "--source", os.path.join(root, "tests/synth/docs"), "--levels", "2", "--lines", "1", "--rollouts", "4",
           "--record", os.path.join(tmp, "record.jsonl"), "--model",
           "exec+lines:python3 %s %s %s %d" % (os.path.join(root, "tests/attacks/canary_program.py"),
                                               os.path.join(root, "tests/synth/author_program.py"), plants, server.server_port)]
done = run(command, env=environment, pass_fds=[held], cwd=plants)
check(done.returncode == 0 and kept(done)[1] >= 1, "a run whose author looks for secrets ends well, with a task kept",
      done.stdout[-2000:] + done.stderr[-2000:])
outputs = {"stdout": done.stdout, "stderr": done.stderr}
for verb in (["log", corpus], ["report", corpus], ["verify", corpus], ["hash", corpus]):
    said = run([agon, *verb], env=environment, pass_fds=[held])
    outputs[verb[0]] = said.stdout + said.stderr
with open(os.path.join(tmp, "record.jsonl"), "rb") as f:
    record = f.read()
check(record.count(b"look_around") > 3 and b"I look around" in record and b"I try another way" in record,
      "its bash, its Lua and its fetches did look", len(record))
transcripts = "\n".join(t for (t,) in sqlite3.connect(os.path.join(corpus, "corpus.db")).execute("SELECT transcript FROM stages"))
check("world.db-journal" in transcripts and "after the journal: 1" in transcripts,
      "the journal that a killed command left keeps nobody from the world", transcripts.count("after the journal"))
found = [p for p in places(corpus)] + [p for p in places(tmp) if "/plants/" not in p]
check(not found, "the secret is in no file that the run left", found)
said = [name for name, text in outputs.items() if any(s in text.encode(errors="replace") for s in shapes(secret))]
check(not said, "nothing that agon prints about it has the secret", said)
check(Page.hits == 0, "the server on a private address was not asked for its page", Page.hits)

# The same commands outside of a box find it: the hunt is a real one.
hunt = {}
with open(os.path.join(root, "tests/attacks/canary_program.py")) as f:
    exec(f.read().split("LOOK = ")[0].split("turn, answer")[1].split("\n", 1)[1].replace("sys.argv[2], sys.argv[3]",
         repr((plants, str(server.server_port)))), hunt)
bare = subprocess.run(["bash", "-c", hunt["HUNT"][2] + "; " + hunt["HUNT"][5].split("; ln")[0]], env=environment,
                      capture_output=True, cwd=plants, timeout=60)
check(bare.stdout.count(secret.encode()) >= 2, "without a box the same commands find it", bare.stderr[-300:])
os.close(held)
shutil.rmtree(tmp)
finish()
