#!/usr/bin/env python3
"""agon shell, piped and on a terminal.

Usage: test_shell.py AGON SOURCE_ROOT; speaks TAP.
"""
import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time

agon, root = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, run, skip  # noqa: E402

tmp = tempfile.mkdtemp(prefix="agon-shell-")
trips = os.path.join(root, "envs/catalog/trip_planning")
loans = os.path.join(root, "envs/catalog/library_loans")
os.environ.pop("XDG_STATE_HOME", None)
os.environ.pop("NO_COLOR", None)


def shell(lines, *args, env=loans):
    return run([agon, "shell", env, *args], input="\n".join(lines) + "\n")


# ---- piped
done = shell([".tools"])
if done.returncode == 3:
    if os.environ.get("AGON_BOX_MUST_WORK"):
        check(False, "boxes work", done.stderr)
    else:
        skip("agon shell", done.stderr.strip())
    finish()
check(done.returncode == 0 and "find_member(member_name: string)" in done.stdout, "signatures of tools", done.stdout + done.stderr)
check("\033" not in done.stdout and "> " not in done.stdout.replace("-> ", ""), "no prompt and no colours in a pipe", done.stdout)
check(all(len(line) <= 80 for line in done.stdout.splitlines()), "no line is wider than 80 columns")

same = [shell([line]).stdout for line in ('find_member {"member_name": "Mei Okafor"}', 'find_member member_name="Mei Okafor"',
                                          'find_member{"member_name":\n"Mei Okafor"}', 'find_member \\\nmember_name="Mei Okafor"',
                                          '.lua tools.find_member{member_name = "Mei Okafor"}')]
check(len(set(same[:4])) == 1 and '"member_id": 103' in same[0] and json.loads(same[4]) == json.loads(same[0]), "a call as the model makes it, as name=value, over two lines, in Lua",
      same)
done = shell(["list_member_loans member_id=103"])
check(re.search(r"^loan_id +copy_id +book_id", done.stdout, re.M) and re.search(r"^ +530 +1003 +23 ", done.stdout, re.M)
      and "rows)" in done.stdout, "rows are an aligned table, numbers to the right", done.stdout)
done = shell([".raw on", "list_member_loans member_id=103"])
check(done.stdout.splitlines()[1].startswith('[{"loan_id": 530, "copy_id": 1003'), "raw: as the model gets them", done.stdout)
for lines, part in ((["find_member"], "member_name"), (['find_member {"member_name": 3}'], "expected string"),
                    (["find_member {nonsense}"], "arguments: line 1"), (["find_member Mei"], "write find_member {"),
                    (["nonsense"], "no command and no tool"), ([".nonsense"], "no command"), (["tasks"], ".tasks"),
                    ([".task t9"], "no task 't9'"), (["select * from nothing"], "nothing"), ([".sql delete from loans"], "SQL"),
                    ([".verify"], "usage"), ([".reset nothing"], "no snapshot"), ([".switch nothing"], "no branch"),
                    ([".diff nothing"], "no snapshot or branch"), ([".undo"], "no writing call"), ([".transcript"], "CORPUS"),
                    ([".step"], "no rollout"), ([".lua error('x')"], "x"), ([".lua while true do end"], "fuel"),
                    ([".bash exit 3"], "exit status 3"), ([".help nothing"], "no command"), ([".tools nothing"], "no tool")):
    done = shell(lines)
    check(done.returncode == 1 and done.stdout.startswith("error: ") and part in done.stdout and not done.stderr,
          "an error is said and counted: %s" % lines[0], done.stdout + done.stderr)
done = shell(["# a comment", "", "nonsense", ".quit", ".tools"])
check(done.returncode == 1 and "find_member" not in done.stdout, ".quit ends it, what failed before counts", done.stdout)
done = run([agon, "shell", loans, "-c", "select count(*) as n from members", "--command", ".tasks"])
check(done.returncode == 0 and done.stdout.startswith(" n\n--\n20\n") and "* t1_l1 (level 1): " in done.stdout, "lines as options", done.stdout)
done = run([agon, "shell", loans, "--task", "t1_l2", "-c", ".tasks"])
check("* t1_l2" in done.stdout, "--task chooses", done.stdout)
for args, part in ((("--task", "t7"), "no task 't7'"), (("nothing",), "corpus")):
    done = run([agon, "shell", loans, *args], input="")
    check(done.returncode == 2 and part in done.stderr and done.stderr.startswith("error"), "refused in one line: %s" % args[-1], done.stderr)

# ---- states
done = shell([".gold apply", ".diff", ".writes", ".snapshot lent", ".undo", ".diff lent", ".reset lent", ".hash", ".fork other",
              ".reset", ".switch main", ".hash", ".switch", ".reset", ".hash"], "--task", "t1_l2")
out = done.stdout
check(done.returncode == 0 and "updated loans loan_id=530\n    returned_on: null -> \"2025-03-10\"\n" in out
      and "inserted loans loan_id=564\n    copy_id: 1028\n" in out, "the difference is rows, changed columns named", out)
check("4. lend_copy {" in out and "taken back: {\"tool\": \"lend_copy\"" in out and "deleted loans loan_id=564" in out,
      "writes are listed, taken back, and held against a snapshot", out)
hashes = re.findall(r"^[0-9a-f]{64}$", out, re.M)
check(len(hashes) == 3 and hashes[0] == hashes[1] != hashes[2], "branches go their own ways", hashes)
check("* main: 4 writing calls\n  other: 0 writing calls\n" in out, "and are listed", out)

# the digest is what state.h says: made here from the database alone
world = sqlite3.connect(":memory:")
with open(os.path.join(loans, "world.sql")) as f:
    world.executescript(f.read())
digest = hashlib.sha256()
for (table,) in world.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
    columns = world.execute("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", (table,)).fetchall()
    digest.update(("table %s\n" % table).encode())
    for c in columns:
        digest.update(("column %s %s %d\n" % c).encode())
    order = [c[0] for c in sorted((c for c in columns if c[2]), key=lambda c: c[2])] + [c[0] for c in columns if not c[2]]
    for row in world.execute("SELECT * FROM %s ORDER BY %s" % (table, ", ".join(order))):
        digest.update((json.dumps(row, ensure_ascii=False) + "\n").encode())
check(digest.hexdigest() == hashes[2], "the digest of a world is the documented one")

# ---- tasks
done = shell([".gold"], "--task", "t1_l2")
check(done.returncode == 0 and "8. lend_copy {" in done.stdout and '{"returned": [1003, 1007, 1012], "lent": 1028}' in done.stdout
      and done.stdout.endswith("pass\n") and "no difference" in shell([".gold", ".diff"]).stdout,
      "the solution runs, is judged, and leaves the shell's world alone", done.stdout)
done = shell(['.verify {"returned": [1, 2], "lent": 3}', ".gold apply", '.verify {"returned": [1003, 1007, 1012], "lent": 1028}'],
             "--task", "t1_l2")
check(done.returncode == 0 and re.search(r"^FAIL +taken_back: First take back every copy that she has on loan", done.stdout, re.M)
      and "\nfail\n" in done.stdout and done.stdout.endswith("pass\n"),
      "a verdict names the checks that fail, with the prompt's sentences", done.stdout)
done = shell(['.verify {"lent": 3}'], "--task", "t1_l2")
check("FAIL  answer: property 'returned' is missing" in done.stdout, "an answer of another form is named", done.stdout)
done = shell([".lua for _, l in ipairs(tools.list_member_loans{member_id = 103}) do tools.return_copy{loan_id = l.loan_id, "
              "on_date = '2025-03-10'} end return 'done'", ".writes"])
check(done.returncode == 0 and '"done"' in done.stdout and "1. return_copy" in done.stdout, "what Lua writes stays", done.stdout)
done = shell([".bash sqlite3 /work/world.db 'select count(*) from members'; id -u; ls /root 2>&1 | head -1", ".bash touch /work/x",
              ".bash ls /work"])
check(done.returncode == 0 and done.stdout.splitlines()[0].isdigit() and "x" in done.stdout, "bash runs in its box, which stays",
      done.stdout)

# ---- a rollout, step by step
corpus = os.path.join(tmp, "corpus")
made = run([agon, "synth", "general", "--corpus", corpus, "--category", "cars: road tests of cars", "--source",
            os.path.join(root, "tests/synth/docs"), "--model", "exec+lines:python3 %s --mistakes 0 --solver-mistakes 0.4"
            % os.path.join(root, "tests/synth/author_program.py"), "--levels", "1", "--rollouts", "6"])
check(made.returncode == 0, "a corpus is made", made.stderr)
done = run([agon, "shell", corpus, "cars/t1_l1"], input=".transcript\n.transcript 1\n.step\n.writes\n.step all\n.switch\n")
check(done.returncode == 0 and re.search(r"^  0 (pass|fail) ", done.stdout, re.M) and "\nturn 1\n" in done.stdout
      and "-> submit_result " in done.stdout and re.search(r"^end: done, verdict: (pass|fail)", done.stdout, re.M)
      and "* rollout1: 0 writing calls" in done.stdout, "a stored rollout is gone through", done.stdout + done.stderr)
done = run([agon, "shell", corpus, "cars/t1_l1", "-c", ".audit"])
check(done.returncode == 0 and re.search(r"^  t1_l1 .* 20/20 ", done.stdout, re.M) and "1 environments, 1 tasks: " in done.stdout,
      ".audit shows the card of the task", done.stdout + done.stderr)
with sqlite3.connect(os.path.join(corpus, "corpus.db")) as db:
    db.execute("UPDATE rollouts SET transcript = replace(transcript, '\"role\": \"tool\"', '\"role\": \"tool\", \"x\": 1')")
    text = db.execute("SELECT transcript FROM rollouts WHERE idx = 1").fetchone()[0]
    at = text.index('"content": "', text.index('"role": "tool"')) + len('"content": "')
    db.execute("UPDATE rollouts SET transcript = ? WHERE idx = 1", (text[:at] + "#" + text[at + 1:],))
db.close()
done = run([agon, "shell", corpus, "cars/t1_l1"], input=".transcript 1\n.step\n")
check(done.returncode == 1 and "error: today this call gives: " in done.stdout, "a result that is another one today is said", done.stdout)


# ---- on a terminal
class Terminal:
    def __init__(self, *args, **env):
        self.new = ""  # what came and was not asked for yet
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(dict({"HOME": tmp, "TERM": "xterm", "COLUMNS": "80"}, **env))
            os.execv(agon, [agon, "shell", *args])

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            self.new += os.read(self.fd, 65536).decode(errors="replace")
        except OSError:  # the other side is gone
            return False
        return True

    def until(self, part, seconds=30):
        """All up to `part`, and it; or all that came in that time."""
        end = time.time() + seconds
        while part not in self.new and time.time() < end:
            self.read(0.1)
        at = self.new.find(part)
        at = len(self.new) if at < 0 else at + len(part)
        text, self.new = self.new[:at], self.new[at:]
        return text

    def quiet(self, seconds=0.4):
        """All until nothing comes any more: a line editor that is still setting up loses keys."""
        while self.read(seconds):
            pass
        text, self.new = self.new, ""
        return text

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        self.type("\x04")
        end = time.time() + 30
        while time.time() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if not self.read(0.1):
                time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


t = Terminal(loans, "--task", "t1_l2")
out = t.until("library_loans> ")
check("3 tasks, chosen: t1_l2" in out and "\033[1m" in out, "a terminal gets a welcome, a prompt and colours", out)
t.type(".verify {}\n")
check("\033[31m" in t.until("library_loans> "), "what fails is red")
t.quiet()
t.type(".tas\t")
t.quiet()
t.type("\x15find_b\t")
t.quiet()
t.type("ti\t\"The Salt Road\"\n")
out = t.until('"book_id": 21')
check('"book_id": 21' in out, "commands, tools and arguments complete", out)
t.quiet()
t.type(".schema lo\t\n")
out = t.until("first rows")
check("due_on" in out, "tables complete", out)
t.quiet()
t.type("this is garbage\x03")
t.quiet()
t.type(".tasks\n")
out = t.until("t1_l3")
check("t1_l2 (level 2)" in out and "garbage" not in out, "Ctrl-C drops the line, not the shell", out)
t.quiet()
t.type(".bash sleep 100\n")
t.quiet(1.5)
t.type("\x03")
out = t.until("error: interrupted")
check("interrupted" in out, "Ctrl-C interrupts a command in its box", out)
t.quiet()
t.type("SELECT count(*) AS n FROM members\n")
out = t.until("(1 row)")
check("(1 row)" in out, "and the shell goes on", out)
t.quiet()
t.type(".sql WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c\n")
time.sleep(0.3)
t.type("\x03")
out = t.until("error: ")
check("error: " in out, "Ctrl-C while a cell works comes back to the prompt", out)
t.quiet()
t.type("\x1b[A\x1b[A\n")
out = t.until("(1 row)")
check("(1 row)" in out, "history comes back with the arrow keys", repr(out))
t.quiet()
t.type("return_copy {\n")
t.until("...> ")
t.quiet()
t.type("\"loan_id\": 530, \"on_date\": \"2025-03-10\"}\n")
out = t.until("takes it back")
check(".diff" in out, "a call over two lines; the shell says that the world has changed", out)
t.quiet()
check(t.end() == 0, "Ctrl-D ends it with 0, whatever failed")
with open(os.path.join(tmp, ".agon_history")) as f:
    history = f.read()
check(".tasks" in history and "members" in history and os.stat(f.name).st_mode & 0o077 == 0, "the history is a private file", history)
t = Terminal(loans, NO_COLOR="1", XDG_STATE_HOME=tmp + "/none")
out = t.until("library_loans> ")
t.type("nonsense\n")
out += t.until("error: ") + t.quiet()
t.end()
check("\033[31m" not in out and "\033[1m" not in out, "NO_COLOR takes the colours away", out)

shutil.rmtree(tmp, ignore_errors=True)
finish()
