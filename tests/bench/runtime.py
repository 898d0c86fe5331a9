"""./run bench runtime: what rollouts and verdicts cost, beside their targets, a floor in C and plain Python.

Usage: runtime.py BENCH_RUNTIME BENCH_CELL CATALOG
Each row is a median; "processor" is what driver and cell spent of theirs, since the machine may be
shared and waiting for it is no cost of ours. A floor is measured by turns with its row: the same SQL from a C program with prepared statements on Debian's
SQLite as it comes, in one process, with nothing around it."""
import json
import statistics
import subprocess
import sys
import time

import plain

GOLDENS = 85267
ROLLOUTS = 100000
ROWS = (  # key, words, target in microseconds or None
    ("read", "10 tool calls and verdict (21 statements, 1 MB), boxed", 35),
    ("read_calls", "  ... each call made, rows known from an earlier one", 35),
    ("read_anew", "  ... each of its rows read for the first time", 35),
    ("write", "the same, 4 of the calls writing, changes claimed", 50),
    ("write_calls", "  ... each call made, rows known from an earlier one", 50),
    ("write_anew", "  ... each of its rows read for the first time", 50),
    ("read_json", "the reading one with JSON in and results out", 45),
    ("read_json_calls", "  ... each call made, rows known from an earlier one", 45),
    ("read_json_anew", "  ... each of its rows read for the first time", 45),
    ("verdict", "verdict alone (5 statements, 3 checks)", 4),
    ("verdict_anew", "  ... each of its rows read for the first time", 4),
    ("open", "open a world of 1 MB in a cell, first verdict", 3000),
    ("reset", "reset after 4 writes", 3),
    ("fork", "fork of an instance with 4 writes, its state made", 10),
    ("bash", "bash command in a resident box", 1500),
    ("call", "one tool call from the driver and back", None),
)


def lines_of(*command):
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    return [json.loads(line) for line in out.splitlines()]


def quantity(us):
    return f"{us / 1e6:.2f} s" if us >= 1e6 else f"{us / 1e3:.2f} ms" if us >= 1e3 else f"{us:.2f} us"


def show(words, us, cpu=None, target=None, floor=None, floor_cpu=None):
    proc = f" {cpu / floor_cpu:6.2f}x" if floor_cpu else ""
    ratio = f"{quantity(floor):>10} {us / floor:6.2f}x{proc}" if floor else ""
    goal = f"{'<= ' + quantity(target):>13}" if target else " " * 13
    print(f"{words:<56}{quantity(us):>11}{quantity(cpu) if cpu else '':>11}{goal}{ratio}", flush=True)


def heading():
    print(f"{'':<56}{'median':>11}{'processor':>11}{'target':>13}{'floor':>10} {'ratio':>7} {'proc.':>7}")


def print_rows(bench, cell):
    rows = {row["row"]: row for row in lines_of(bench) + lines_of(cell)}
    for key, words, target in ROWS:
        if key in rows:
            row = rows[key]
            show(words, row["us"], row["cpu"], target, row.get("floor"), row.get("floor_cpu"))


def print_goldens(bench, catalog):
    took = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([bench, "goldens", str(GOLDENS), "2", catalog], check=True)
        took.append((time.monotonic() - start) * 1e6)
    show(f"{GOLDENS:,} golden verdicts of the catalogue, 2 cells", statistics.median(took), target=3e6)


def print_memory(bench):
    kib = lines_of(bench, "memory", str(ROLLOUTS))[0]["kib"]
    print(f"{f'memory of a cell after 10% and 100% of {ROLLOUTS:,} rollouts':<56}{kib[0]:>7} KiB{kib[-1]:>7} KiB"
          f"{'flat':>6}")


def measure_plain(environment, task):
    """Medians of one episode: reset, calls with JSON in and out, verdict; on the wall and of the processor."""
    calls = [(c["tool"], json.dumps(c["arguments"], ensure_ascii=False)) for c in task["calls"]]
    answer = json.dumps(task["answer"], ensure_ascii=False)
    took, spent = [], []
    for _ in range(60):
        start, cpu = time.perf_counter(), time.process_time()
        environment.world.reset()
        results = [environment.call(tool, arguments) for tool, arguments in calls]
        passed = environment.verify(answer)
        took.append((time.perf_counter() - start) * 1e6)
        spent.append((time.process_time() - cpu) * 1e6)
    if results != task["results"] or not passed:
        sys.exit(f"runtime.py: {task['env']}: plain Python and the runtime disagree")
    return statistics.median(took), statistics.median(spent)


def print_plain(bench, catalog):
    print("\nThe catalogue, an episode with JSON both ways: boxed, and in plain Python in process (the same result bytes)")
    for name, environment in plain.ENVIRONMENTS.items():
        task = lines_of(bench, "catalog", f"{catalog}/{name}/tasks/t1_l3")[0]
        us, cpu = measure_plain(environment(catalog), task)
        words = f"{name}: {len(task['calls'])} calls, {len(environment.checks(environment))} checks"
        print(f"{words:<56}{quantity(task['us']):>11}{quantity(task['cpu']):>11}{'Python':>13}{quantity(us):>10}"
              f" {us / task['us']:6.2f}x {cpu / task['cpu']:6.2f}x", flush=True)


def main():
    bench, cell, catalog = sys.argv[1:]
    heading()
    print_rows(bench, cell)
    print_goldens(bench, catalog)
    print_memory(bench)
    print_plain(bench, catalog)


if __name__ == "__main__":
    main()
