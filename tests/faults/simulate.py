#!/usr/bin/env python3
"""Simulation: one seed draws a run, its model's answers, and what befalls it, until it has come to its end.

Usage: simulate.py AGON TRACE PRELOAD [--seed S] [--seeds N | --minutes M] [--verbose]; speaks TAP, one claim a seed.

A seed stands for: categories, levels and rollouts; the answers of author and solver (and their mistakes); and a few
attempts at the run, each with threads of its own and a fate: killed at a call, the disk failing once or for good, the
power gone, memory out; on the way, calls interrupted and halved, cells killed, the clock jumping. After each attempt
what was said to be done must be there; the last one is undisturbed, and its corpus is that of a run that nothing befell.
A seed that fails is the report of the bug: give it again with --seed.
"""
import argparse
import itertools
import os
import random
import shutil
import signal
import time

from disk import Disk, write_state
from faults import CHANGES, INTERRUPTED, Case, cells_of, check, finish, note, number, processes_below, root, run, trace

FATES = ("kill", "kill", "power", "power", "fault", "fault on", "memory", "memory on", "none")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
SUBJECTS = ("road tests of cars", "fuel consumption of cars", "design and power of cars")


class Simulation(Case):
    def __init__(self, agon, tracer, preload, seed):
        super().__init__(agon, tracer)
        self.preload = preload
        self.rng = random.Random(seed)
        self.seed = seed
        self.shape = ["--levels", str(self.rng.randint(1, 2)), "--rollouts", str(self.rng.randint(1, 3)), "--rollouts-max",
                      str(self.rng.randint(3, 5)), "--seed", str(self.rng.randrange(1 << 30)), "--tries", "2"]
        self.categories = ["--category=cars_%s: %s" % (name, subject) for name, subject in
                           list(zip("abc", SUBJECTS))[:self.rng.choice((1, 1, 2, 3))]]
        self.program = "exec+lines:python3 %s --mistakes %s --solver-mistakes %s" % (
            os.path.join(root, "tests/synth/author_program.py"), self.rng.choice(("0", "0.25", "0.5")),
            self.rng.choice(("0.2", "0.5", "0.8")))
        self.said = ""
        whole = self.corpus()
        done = run(self.command(whole))
        self.reference = self.digest(whole)
        self.wrong = "undisturbed: exit code %d: %s" % (done.returncode, done.stderr) if done.returncode else None

    def command(self, corpus, *more):
        return [self.agon, "synth", "general", "--corpus", corpus, *self.categories, "--source",
                os.path.join(root, "tests/synth/docs"), "--model", self.program, *self.shape, *more]

    def attempt(self, corpus):
        """One attempt with its fate; what is wrong, or None."""
        rng = self.rng
        fate, at = rng.choice(FATES), rng.choice((int(2 ** rng.uniform(0, 11)), rng.randint(1, 1500)))
        p_interrupt, p_short = rng.choice((0, 0, 0.02)), rng.choice((0, 0, 0.05))
        cell_at = rng.randint(1, 300) if rng.random() < 0.3 else None
        error = number(rng.choice(ERRORS))
        command = self.command(corpus, "--jobs", str(rng.randint(1, 4)), "--parallel", str(rng.randint(1, 6)))
        variables = []
        if fate.startswith("memory"):
            variables.append("AGON_FAULT_ALLOC=%d%s" % (2 ** rng.uniform(4, 16), "+" if "on" in fate else ""))
        if rng.random() < 0.3:
            variables.append("AGON_FAULT_CLOCK=%d" % rng.randrange(1 << 20))
        if variables:
            command = ["env", "LD_PRELOAD=" + self.preload] + variables + command
        disk = Disk(corpus) if fate == "power" else None
        state = {"changes": 0, "polls": 0, "over": False, "made": None, "last": None}

        def decide(call):
            if isinstance(call, int):
                if call >= 0:
                    disk.happen(state["made"])
                return None
            if call.name == "poll":
                state["polls"] += 1
                if state["polls"] == cell_at:
                    self.kill_a_cell(corpus)
            here = (call.path + "/").startswith(corpus + "/") or (call.path2 + "/").startswith(corpus + "/")
            again = state["last"] == (call.name, call.args)
            state["last"] = (call.name, call.args)
            if state["changes"] and not again and call.name in INTERRUPTED and not call.path.startswith("/memfd:") \
                    and rng.random() < p_interrupt:
                return "fail %d" % number("EINTR")
            if not here or call.name not in CHANGES:
                above = disk and call.path == os.path.dirname(corpus) and call.name in ("fsync", "fdatasync")
                if above:
                    state["made"] = call
                return "done" if above else None
            state["changes"] += 1
            if state["changes"] >= at:
                if fate in ("kill", "power"):
                    return "kill"
                if (fate == "fault" and state["changes"] == at) or fate == "fault on":
                    return "fail %d" % error
            if disk:
                state["made"] = call
                return "done"
            if call.name in ("write", "pwrite64") and call.args[2] > 1 and rng.random() < p_short:
                return "short %d" % ((call.args[2] + 1) // 2)
            return None

        end = trace(self.tracer, command, sorted(set(CHANGES + INTERRUPTED)), decide, data=fate == "power")
        self.said += end.stderr
        story = "%s at %d, exit code %d" % (fate, at, end.returncode)
        if fate == "power":
            shutil.rmtree(corpus, ignore_errors=True)
            write_state(disk.after(rng, rng.choice(("nothing", "names", "any"))), corpus)
        if end.returncode == 137 and fate in ("kill", "power"):
            wrong = None
        else:
            wrong = self.fault_is_told(end)
        if not wrong and os.path.exists(os.path.join(corpus, "corpus.db")):
            wrong = self.acked_is_there(corpus, self.said)
        return story, wrong

    def kill_a_cell(self, corpus):
        drivers = [p for p, n in processes_below(os.getpid()).items() if n.startswith(self.agon) and corpus in n]
        for p in sorted(cells_of(processes_below(min(drivers))))[:1] if drivers else []:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def play(self):
        """What is wrong, or None, and the story."""
        story, wrong = [], self.wrong
        corpus = self.corpus()
        for _ in range(self.rng.randint(2, 5)):
            if wrong:
                break
            said, wrong = self.attempt(corpus)
            story.append(said)
        if not wrong:
            wrong = self.resumes(corpus) or self.acked_is_there(corpus, self.said)
        if not wrong and run([self.agon, "verify", corpus]).returncode not in (0, 2): # 2: nothing was kept
            wrong = "agon verify"
        return wrong, "; ".join(story)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("agon")
    p.add_argument("trace")
    p.add_argument("preload")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--minutes", type=float, help="as many seeds as there is time for")
    p.add_argument("--verbose", action="store_true")
    o = p.parse_args()
    until = time.time() + o.minutes * 60 if o.minutes else None
    for seed in itertools.count(o.seed) if until else range(o.seed, o.seed + o.seeds):
        if until and time.time() > until:
            break
        simulation = Simulation(o.agon, o.trace, o.preload, seed)
        wrong, story = simulation.play()
        simulation.close()
        if o.verbose:
            note("%d: %s" % (seed, story))
        check(not wrong, "simulation of seed %d ends as the run that nothing befell" % seed,
              "%s\n%s\nagain: tests/faults/simulate.py %s %s %s --seed %d" % (story, wrong, o.agon, o.trace, o.preload, seed))
    finish()


main()
