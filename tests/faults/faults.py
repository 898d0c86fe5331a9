"""Fault sweeps over the command agon: run it under `trace`, decide at each of its system calls.

Run.trace() runs the small job (one category, one level, two rollouts, recorded answers) and asks
`decide(call)` at each call; what decide returns ("fail 28", "short 1", "kill", "alone", "skip 9", None for "go") is done.
The invariants that every sweep holds a run to are check_end() and check_resumed().
"""
import concurrent.futures
import errno
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(root, "tests"))
from tap import check, finish, note, run, skip  # noqa: E402,F401

# What changes a disk, and what reads one.
CHANGES = ("write pwrite64 writev fsync fdatasync ftruncate fchmod chmod truncate open openat rename renameat renameat2"
           " mkdir mkdirat unlink unlinkat rmdir link symlink").split()
# What a signal may interrupt where files are on a local disk.
INTERRUPTED = "read pread64 write pwrite64 poll ppoll recvmsg recvfrom sendmsg sendto wait4 sendfile connect".split()
O_CREAT, O_TRUNC, O_ACCMODE = os.O_CREAT, os.O_TRUNC, os.O_ACCMODE


class Call:
    """One system call that the traced program is about to make."""

    def __init__(self, line, stream, n, said):
        self.said = said # what the program has written to stderr so far: said()
        fields = line.rstrip(b"\n").split(b"\t")
        self.n, self.name = n, fields[0].decode()
        self.args = [int(f) for f in fields[1:6]]
        self.path, self.path2 = (f.replace(b"\\n", b"\n").replace(b"\\t", b"\t").replace(b"\\\\", b"\\")
                                 .decode("utf-8", "surrogateescape") for f in fields[6:8])
        size = int(fields[8])
        self.bytes = stream.read(size) if size else b""

    @property
    def changes(self):
        """Does it change the disk?"""
        if self.name in ("open", "openat"):
            return bool(self.flags & (O_CREAT | O_TRUNC))
        return self.name in CHANGES and self.name not in ("fsync", "fdatasync")

    @property
    def flags(self):
        return self.args[1 if self.name == "open" else 2]

    def site(self, corpus):
        """The call without what differs from run to run: what a thinned sweep takes one of."""
        path = re.sub(r"tmp-\d+-\d+", "tmp", (self.path2 or self.path).replace(corpus, ""))
        return self.name, re.sub(r"[0-9a-f]{64}|stage\.\w{6}", "*", path).replace(" (deleted)", "")

    def __str__(self):
        return "call %d, %s(%s)" % (self.n, self.name, self.path + (", " + self.path2 if self.path2 else ""))


class Ended:
    def __init__(self, returncode, stdout, stderr, n):
        self.returncode, self.stdout, self.stderr, self.n = returncode, stdout, stderr, n

    def errors(self):
        return [l for l in self.stderr.splitlines() if l.startswith("error")]


def trace(tracer, command, calls, decide, below=None, data=False, env=None, seconds=300, before=None):
    """Run command; decide(call) at each of `calls` (below a path). Its end, with the number of calls seen."""
    report_r, report_w = os.pipe()
    order_r, order_w = os.pipe()
    args = [tracer] + (["--data"] if data else []) + (["--below", below] if below else [])
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        def said():
            return os.pread(err.fileno(), 1 << 20, 0).decode("utf-8", "replace")

        child = subprocess.Popen(args + [",".join(calls), str(report_w), str(order_r)] + command, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=err, pass_fds=(report_w, order_r), env=env, preexec_fn=before)
        os.close(report_w)
        os.close(order_r)
        n = 0
        with os.fdopen(report_r, "rb") as report, os.fdopen(order_w, "wb", buffering=0) as order:
            for line in report:
                n += 1
                answer = decide(Call(line, report, n, said)) or "go"
                order.write(answer.encode() + b"\n")
                if answer.startswith("skip "):
                    n += int(answer[5:])
                if answer == "done":
                    decide(int(report.readline()))
        code = child.wait(timeout=seconds)
        texts = []
        for f in out, err:
            f.seek(0)
            texts.append(f.read().decode("utf-8", "replace"))
        return Ended(code, texts[0], texts[1], n)


def memory():
    """Where corpora lie: in memory, if there is room. What was synced is told by the calls, and a sweep makes a million
    of them; on a disk that others use, too, it waits for little else."""
    place = "/dev/shm"
    fits = os.access(place, os.W_OK) and shutil.disk_usage(place).free > 4 << 30
    return place if fits and "TMPDIR" not in os.environ else None


class Case:
    """A folder for corpora, and what every run in it is held to. A subclass says command(corpus) and reference."""

    def __init__(self, agon, tracer):
        self.agon, self.tracer = agon, tracer
        self.tmp = tempfile.mkdtemp(prefix="agon-faults-", dir=memory())
        self.numbers = itertools.count(1)
        self.resumed = {} # state() of a corpus: what resumes() said of it

    def corpus(self):
        return os.path.join(self.tmp, "corpus%d" % next(self.numbers))

    def digest(self, corpus):
        done = run([self.agon, "hash", corpus])
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()

    def acked_is_there(self, corpus, stderr):
        """What is missing of that which the driver said to be done, or None."""
        stages = re.findall(r"^info (\w+): (\w+): done$", stderr, re.M)
        kept = re.findall(r"^info (\w+): (\d+) of \d+ tasks kept$", stderr, re.M)
        if not stages + kept:
            return None
        log = run([self.agon, "log", corpus])
        lost = [s for s in stages if not re.search(r"^%s \d+ %s stage_done" % s, log.stdout, re.M)]
        lost += [k for k in kept if len(re.findall(r"^%s \d+ publish kept" % k[0], log.stdout, re.M)) != int(k[1])]
        return "%s said to be done, but: %s" % (lost, log.stdout + log.stderr) if lost else None

    def fault_is_told(self, end, codes=(3,)):
        """What is wrong with how a disturbed run ended, or None: well, or by a code of `codes` and one line."""
        if end.returncode == 0:
            return None
        if end.returncode not in codes:
            return "exit code %d: %s" % (end.returncode, end.stderr)
        if len(end.errors()) != 1:
            return "%d error lines: %s" % (len(end.errors()), end.stderr)
        return None

    def resumes(self, corpus):
        """What is wrong with the same command given again, undisturbed, or None."""
        again = run(self.command(corpus))
        if again.returncode:
            return "the same command again: exit code %d: %s" % (again.returncode, again.stderr)
        left = [f for d, _, files in os.walk(corpus) for f in files + [os.path.basename(d)]
                if f.startswith((".agon-tmp", "stage.")) or f.endswith(("-journal", "-wal"))]
        digest = self.digest(corpus) # last: a reader makes an empty -wal
        if digest != self.reference:
            return "its digest is %s, not %s" % (digest, self.reference)
        return "left over: %s" % left if left else None

    def state(self, corpus):
        """What the next run can tell this corpus from another by: every name (but for a process id in it), and every
        file's bytes but for the lock's (a process id) and corpus.db's (clocks and salts): of that its rows without the
        clock's, and each file's size."""
        digest, copy = hashlib.sha256(), self.corpus()
        for folder, folders, files in os.walk(corpus):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                shown = re.sub(r"tmp-\d+-", "tmp-", os.path.relpath(path, corpus))
                digest.update(("%s %d\n" % (shown, os.path.getsize(path))).encode())
                if name != "lock" and not name.startswith("corpus.db"):
                    with open(path, "rb") as f:
                        digest.update(f.read())
            digest.update(("%s: %s\n" % (os.path.relpath(folder, corpus), folders)).encode())
        if os.path.isdir(corpus):
            shutil.copytree(corpus, copy, symlinks=True) # a reader, too, changes what is beside a database
        rows = run([self.agon, "hash", "--dump", copy])
        shutil.rmtree(copy, ignore_errors=True)
        digest.update((rows.stdout + rows.stderr.replace(copy, "")).encode())
        return digest.hexdigest()

    def resumes_once(self, corpus):
        """resumes(), but of a state that was resumed from before, what was found then; the corpus is gone after it."""
        state = self.state(corpus)
        if state not in self.resumed:
            self.resumed[state] = self.resumes(corpus)
        shutil.rmtree(corpus, ignore_errors=True)
        return self.resumed[state]

    def close(self):
        shutil.rmtree(self.tmp, ignore_errors=True)


def spread(cases, look):
    """look(*case) for each of `cases`, three at once a core (most of its time a case waits for processes and disks);
    what they say in the order of the cases, which are drawn as they are needed."""
    n = 3 * (os.cpu_count() or 1)
    room = threading.Semaphore(2 * n)

    def one(case):
        try:
            return case, look(*case)
        finally:
            room.release()

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        ahead = []
        for case in cases:
            room.acquire()
            ahead.append(pool.submit(one, case))
            while ahead and ahead[0].done():
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


class Job(Case):
    """The small job: one category, one level, two rollouts, the answers recorded first."""

    def __init__(self, agon, tracer):
        super().__init__(agon, tracer)
        self.program = "exec+lines:python3 %s --mistakes 0.25" % os.path.join(root, "tests/synth/author_program.py")
        self.recording = os.path.join(self.tmp, "recording.jsonl")
        told = self.corpus()
        first = run(self.command(told, self.program, "--record", self.recording))
        self.program_digest = self.digest(told)
        self.reference_corpus = self.corpus()
        whole = run(self.command(self.reference_corpus))
        self.reference = self.digest(self.reference_corpus)
        check(first.returncode == 0 and whole.returncode == 0 and len(self.reference) == 64, "the small job runs undisturbed",
              first.stderr + whole.stderr)

    def command(self, corpus, model=None, *more):
        return [self.agon, "synth", "general", "--corpus", corpus, "--category", "cars: road tests of cars", "--source",
                os.path.join(root, "tests/synth/docs"), "--model", model or "replay:" + self.recording, "--levels", "1",
                "--lines", "1", "--rollouts", "2", "--rollouts-max", "2", *more]

    def trace(self, corpus, calls, decide, model=None, **more):
        return trace(self.tracer, self.command(corpus, model), calls, decide, **more)


def processes_below(pid):
    """Processes that came from pid, as {pid: command line}."""
    parents, names = {}, {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                parents[int(p)] = int(f.read().rsplit(")", 1)[1].split()[1])
            with open("/proc/%s/cmdline" % p, "rb") as f:
                names[int(p)] = f.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            pass

    def comes(p):
        while p in parents and p != pid:
            p = parents[p]
        return p == pid

    return {p: n for p, n in names.items() if p != pid and comes(p)}


def cells_of(processes):
    """Those of the processes that are cells, not the bubblewrap around them."""
    return [p for p, n in processes.items() if "--cell=" in n and "bwrap" not in n]


def number(name):
    return getattr(errno, name)


def thin(calls, n, rng, corpus):
    """At most n of the calls: one of each site first, then any."""
    if n is None or len(calls) <= n:
        return list(calls)
    order = list(calls)
    rng.shuffle(order)
    sites, chosen, rest = set(), [], []
    for c in order:
        (rest if c.site(corpus) in sites else chosen).append(c)
        sites.add(c.site(corpus))
    return sorted((chosen + rest)[:n], key=lambda c: c.n)
