"""A second opinion on answers to the catalogue's tasks, written from the prompts and not from the verifiers.

usage: second_checker.py CATALOG < LINES: JSON lines {"env", "task", "answer": TEXT, "writes": [...], "pass"}; every line
on which the two differ is printed, then "N judged, R right". The world is read into Python and judged there.
"""
import json
import os
import sqlite3
import sys

import trip_cases


def well_formed(value, schema):
    kind = schema.get("type")
    if kind == "object":
        return (isinstance(value, dict) and all(k in value for k in schema.get("required", []))
                and all(k in schema["properties"] and well_formed(v, schema["properties"][k]) for k, v in value.items()))
    if kind == "array":
        return (isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
                and all(well_formed(v, schema["items"]) for v in value))
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    return isinstance(value, {"string": str, "number": (int, float)}[kind])


def load(catalog, env):
    db = sqlite3.connect(":memory:")
    db.executescript(open(os.path.join(catalog, env, "world.sql"), encoding="utf-8").read())
    return db


# ---- trip_planning

class Trips:
    def __init__(self, catalog):
        self.world = trip_cases.World(os.path.join(catalog, "trip_planning", "world.sql"))

    def right(self, task, plan, writes):
        level = int(task[-1])
        broken = trip_cases.broken_one_day(self.world, plan) if level == 1 else trip_cases.broken_trip(self.world, plan, level)
        return not broken and not writes


# ---- exam_timetable

class Exams:
    NAMES = {"t1_l1": ["Civil Law", "Drawing", "Ecology"], "t1_l2": ["Civil Law", "Drawing", "Icelandic", "Algebra"],
             "t1_l3": ["Civil Law", "Drawing", "Icelandic", "Algebra", "Hydraulics"]}

    def __init__(self, catalog):
        db = load(catalog, "exam_timetable")
        self.teacher = dict(db.execute("SELECT exam, teacher FROM exams"))
        self.minutes = dict(db.execute("SELECT exam, minutes FROM exams"))
        self.seats = dict(db.execute("SELECT room, seats FROM rooms"))
        self.building = dict(db.execute("SELECT room, building FROM rooms"))
        self.date = dict(db.execute("SELECT slot, on_date FROM slots"))
        self.starts = dict(db.execute("SELECT slot, starts FROM slots"))
        self.absent = set(db.execute("SELECT teacher, slot FROM absences"))
        self.booked = set(db.execute("SELECT room, slot FROM bookings"))
        self.sits = {}
        for student, exam in db.execute("SELECT student, exam FROM enrolments"):
            self.sits.setdefault(exam, set()).add(student)

    def right(self, task, plan, writes):
        if writes or [p["exam"] for p in plan] != self.NAMES[task]:
            return False
        for p in plan:
            exam, slot, room = p["exam"], p["slot"], p["room"]
            if room not in self.seats or slot not in self.date:
                return False
            if len(self.sits[exam]) > self.seats[room] or (self.teacher[exam], slot) in self.absent or (room, slot) in self.booked:
                return False
            if task != "t1_l1" and self.minutes[exam] > 90 and int(self.starts[slot][:2]) >= 12:
                return False
        for i, p in enumerate(plan):
            for q in plan[:i]:
                if (p["slot"], p["room"]) == (q["slot"], q["room"]):
                    return False
                near = p["slot"] == q["slot"] if task == "t1_l1" else self.date[p["slot"]] == self.date[q["slot"]]
                if near and self.sits[p["exam"]] & self.sits[q["exam"]]:
                    return False
        if task == "t1_l3":
            houses = [self.building[p["room"]] for p in plan]
            return all(houses.count(h) <= 3 for h in houses)
        return True


# ---- library_loans

class Desk:
    """The desk's day in Python: what the prompt asks for, and what the writes that were made leave."""
    DAY, DUE, READER, TITLE = "2025-03-10", "2025-03-31", "Mei Okafor", "The Salt Road"

    def __init__(self, catalog):
        db = load(catalog, "library_loans")
        self.book_of = dict(db.execute("SELECT copy_id, book_id FROM copies"))
        self.book = dict((t, b) for b, t in db.execute("SELECT book_id, title FROM books"))[self.TITLE]
        self.members = {m for m, in db.execute("SELECT member_id FROM members")}
        self.reader = db.execute("SELECT member_id FROM members WHERE member_name = ?", (self.READER,)).fetchone()[0]
        self.loans = {r[0]: list(r[1:]) for r in db.execute("SELECT loan_id, copy_id, member_id, lent_on, due_on, returned_on FROM loans")}
        self.holds = {r[0]: list(r[1:]) for r in db.execute("SELECT hold_id, book_id, member_id, placed_on, served_on FROM holds")}

    @staticmethod
    def out(loans):
        return {l[0] for l in loans.values() if l[4] is None}

    @staticmethod
    def lend(loans, copy, member, on, due):
        loans[max(loans) + 1] = [copy, member, on, due, None]

    def wanted(self, task):
        """The right answer, and loans and holds afterwards."""
        loans, holds = {k: v[:] for k, v in self.loans.items()}, {k: v[:] for k, v in self.holds.items()}
        answer, back = {}, []
        if task != "t1_l1":
            for loan in sorted(loans.values()):
                if loan[1] == self.reader and loan[4] is None and loan[3] < self.DAY:
                    loan[4] = self.DAY
                    back.append(loan[0])
            answer["returned"] = sorted(back)
        if task == "t1_l3":
            answer["served"] = []
            for copy in sorted(back):
                waiting = sorted((h[2], i) for i, h in holds.items() if h[0] == self.book_of[copy] and h[3] is None)
                if waiting:
                    hold = holds[waiting[0][1]]
                    self.lend(loans, copy, hold[1], self.DAY, self.DUE)
                    hold[3] = self.DAY
                    answer["served"].append(waiting[0][1])
        answer["lent"] = min(c for c, b in self.book_of.items() if b == self.book and c not in self.out(loans))
        self.lend(loans, answer["lent"], self.reader, self.DAY, self.DUE)
        return answer, loans, holds

    def after(self, writes):
        """Loans and holds after these calls; None where one does not succeed."""
        loans, holds = {k: v[:] for k, v in self.loans.items()}, {k: v[:] for k, v in self.holds.items()}
        is_date = lambda d: len(d) == 10 and d[4] == d[7] == "-" and (d[:4] + d[5:7] + d[8:]).isdigit()
        for w in writes:
            a, loan = w["arguments"], loans.get(w["arguments"].get("loan_id"))
            if w["tool"] == "lend_copy":
                if (a["copy_id"] not in self.book_of or a["member_id"] not in self.members or a["copy_id"] in self.out(loans)
                        or not is_date(a["on_date"]) or not is_date(a["due_on"])):
                    return None
                self.lend(loans, a["copy_id"], a["member_id"], a["on_date"], a["due_on"])
            elif w["tool"] == "serve_hold":
                hold = holds.get(a["hold_id"])
                if not hold or hold[3] is not None or not is_date(a["on_date"]):
                    return None
                hold[3] = a["on_date"]
            elif not loan or loan[4] is not None:
                return None
            elif w["tool"] == "return_copy":
                if not is_date(a["on_date"]):
                    return None
                loan[4] = a["on_date"]
            else:
                if not is_date(a["due_on"]) or a["due_on"] <= loan[3]:
                    return None
                loan[3] = a["due_on"]
        return loans, holds

    def right(self, task, answer, writes):
        want, loans, holds = self.wanted(task)
        state = self.after(writes)
        # Which number a new loan got depends on the order of the calls; what was lent does not.
        return answer == want and state is not None and state[1] == holds and all(
            state[0].get(k) == loans.get(k) for k in self.loans) and sorted(map(str, state[0].values())) == sorted(map(str, loans.values()))


def main():
    catalog = sys.argv[1]
    judges = {"trip_planning": Trips(catalog), "exam_timetable": Exams(catalog), "library_loans": Desk(catalog)}
    schemas, n, n_right = {}, 0, 0
    for line in sys.stdin:
        one = json.loads(line)
        at = one["env"], one["task"]
        if at not in schemas:
            schemas[at] = json.load(open(os.path.join(catalog, *at[:1], "tasks", at[1], "task.json")))["answer_schema"]
        try:
            answer = json.loads(one["answer"])
            right = well_formed(answer, schemas[at]) and judges[at[0]].right(at[1], answer, one["writes"])
        except ValueError:
            right = False
        n, n_right = n + 1, n_right + right
        if right != one["pass"]:
            print("%s/%s: the second checker says %s: %s" % (at[0], at[1], "right" if right else "wrong", line.strip()[:600]))
    print("%d judged, %d right" % (n, n_right))


if __name__ == "__main__":
    main()
