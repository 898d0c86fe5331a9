"""The three environments of envs/catalog as one would write them in Python: sqlite3 in this process,
rows as dictionaries, json.loads and json.dumps at the edges, a function for each tool and each check.
No limits, no isolation, no fuel. runtime.py holds its results against the runtime's, byte for byte,
and its time beside."""
import json
import pathlib
import sqlite3

ERRORS = (KeyError, TypeError, ValueError)


class World:
    def __init__(self, sql_path, watched=()):
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(pathlib.Path(sql_path).read_text(encoding="utf-8"))
        self.db.row_factory = lambda cursor, row: {c[0]: v for c, v in zip(cursor.description, row)}
        self.watched = watched  # (table, key) pairs whose changes the verifier asks for
        self.before = {t: self.snapshot(t, k) for t, k in watched}
        self.db.execute("BEGIN")

    def snapshot(self, table, key):
        return {row[key]: row for row in self.db.execute(f"SELECT * FROM {table}")}

    def reset(self):
        self.db.execute("ROLLBACK")
        self.db.execute("BEGIN")

    def rows(self, sql, *params):
        return self.db.execute(sql, params).fetchall()

    def row(self, sql, *params):
        return self.db.execute(sql, params).fetchone()

    def value(self, sql, *params):
        row = self.db.execute(sql, params).fetchone()
        return next(iter(row.values())) if row else None

    def changes(self):
        return Changes(self)


class Changes:
    """What was inserted and updated, as rows; each one asked for is claimed."""

    def __init__(self, world):
        self.inserts, self.updates, self.claimed = [], [], set()
        for table, key in world.watched:
            before = world.before[table]
            for k, row in world.snapshot(table, key).items():
                if k not in before:
                    self.inserts.append((table, row))
                elif before[k] != row:
                    self.updates.append((table, row))

    def pick(self, kind, events, table, wanted):
        found = []
        for i, (where, row) in enumerate(events):
            if where == table and all(row[k] == v for k, v in wanted.items()):
                self.claimed.add((kind, i))
                found.append(row)
        return found

    def inserted(self, table, **wanted):
        return self.pick("insert", self.inserts, table, wanted)

    def updated(self, table, **wanted):
        return self.pick("update", self.updates, table, wanted)

    def all_claimed(self):
        return len(self.claimed) == len(self.inserts) + len(self.updates)


def need(row, what):
    if row is None:
        raise ValueError("no " + what)
    return row


class Environment:
    watched = ()

    def __init__(self, catalog):
        self.world = World(pathlib.Path(catalog) / self.name / "world.sql", self.watched)

    def call(self, tool, arguments):
        """Arguments as JSON text; the result as JSON text, or None with a failed call."""
        writes = tool in self.writing
        if writes:
            self.world.db.execute("SAVEPOINT call")
        try:
            result = getattr(self, tool)(**json.loads(arguments))
        except ERRORS:
            if writes:
                self.world.db.execute("ROLLBACK TO call")
            return None
        finally:
            if writes:
                self.world.db.execute("RELEASE call")
        return json.dumps(result, ensure_ascii=False)

    def verify(self, answer):
        answer, changes = json.loads(answer), self.world.changes()
        passed = all([check(answer, changes) for check in self.checks()])
        return passed and changes.all_claimed()

    writing = ()


class TripPlanning(Environment):
    name = "trip_planning"

    def known(self, city):
        need(self.world.row("SELECT city FROM cities WHERE city = ?", city), "city")

    def names(self, sql, city):
        self.known(city)
        return [row["name"] for row in self.world.rows(sql, city)]

    def infos(self, sql, name, keywords):
        row = need(self.world.row(sql, name), name)
        return {key: row[key] for key in sorted(set(keywords))}

    def get_all_attractions_by_city(self, city):
        return self.names("SELECT attraction AS name FROM attractions WHERE city = ? ORDER BY attraction", city)

    def get_all_cities(self):
        return [row["city"] for row in self.world.rows("SELECT city FROM cities ORDER BY city")]

    def get_all_hotels_by_city(self, city):
        return self.names("SELECT hotel AS name FROM hotels WHERE city = ? ORDER BY hotel", city)

    def get_all_restaurants_by_city(self, city):
        return self.names("SELECT restaurant AS name FROM restaurants WHERE city = ? ORDER BY restaurant", city)

    def get_city_by_attraction(self, attraction):
        return need(self.world.value("SELECT city FROM attractions WHERE attraction = ?", attraction), attraction)

    def get_city_by_hotel(self, hotel):
        return need(self.world.value("SELECT city FROM hotels WHERE hotel = ?", hotel), hotel)

    def get_city_by_restaurant(self, restaurant):
        return need(self.world.value("SELECT city FROM restaurants WHERE restaurant = ?", restaurant), restaurant)

    def get_city_transport(self, city):
        self.known(city)
        return self.world.rows("SELECT vehicle, fare, last_ride FROM city_transport WHERE city = ? ORDER BY vehicle", city)

    def get_infos_by_attraction(self, info_keywords, attraction):
        return self.infos("SELECT city, ticket, rating, visit_minutes FROM attractions WHERE attraction = ?", attraction,
                          info_keywords)

    def get_infos_by_city(self, info_keywords, city):
        return self.infos("SELECT province, river, known_for, districts FROM cities WHERE city = ?", city, info_keywords)

    def get_infos_by_hotel(self, info_keywords, hotel):
        return self.infos("SELECT city, price, rating, breakfast FROM hotels WHERE hotel = ?", hotel, info_keywords)

    def get_infos_by_restaurant(self, info_keywords, restaurant):
        return self.infos("SELECT city, price, rating, cuisine FROM restaurants WHERE restaurant = ?", restaurant,
                          info_keywords)

    def get_inter_city_transport(self, from_city, to_city):
        self.known(from_city)
        self.known(to_city)
        return self.world.rows("SELECT vehicle, minutes, fare FROM inter_city_transport "
                               "WHERE from_city = ? AND to_city = ? ORDER BY vehicle", from_city, to_city)

    def get_weather_by_city_date(self, city, date):
        self.known(city)
        return need(self.world.row("SELECT sky, high, low FROM weather WHERE city = ? AND on_date = ?", city, date), date)

    # The checks of t1_l3.

    def checks(self):
        return (self.days, self.start, self.no_repeats, self.in_city, self.luxury_rule, self.middle_rule, self.modest_rule)

    def days(self, answer, changes):
        return [day["time"] for day in answer] == ["2025-10-01", "2025-10-02", "2025-10-03"]

    def start(self, answer, changes):
        return answer[0]["city"] == "Hangzhou"

    def no_repeats(self, answer, changes):
        kinds = {"city": "city", "hotel": "hotel", "afternoon_attraction": "attraction",
                 "afternoon_restaurant": "restaurant", "evening_restaurant": "restaurant"}
        seen = [(kind, day[key]) for day in answer for key, kind in kinds.items()]
        return len(seen) == len(set(seen))

    def in_city(self, answer, changes):
        value = self.world.value
        return all(value("SELECT city FROM hotels WHERE hotel = ?", day["hotel"]) == day["city"]
                   and value("SELECT city FROM restaurants WHERE restaurant = ?", day["afternoon_restaurant"]) == day["city"]
                   and value("SELECT city FROM restaurants WHERE restaurant = ?", day["evening_restaurant"]) == day["city"]
                   and value("SELECT city FROM attractions WHERE attraction = ?", day["afternoon_attraction"]) == day["city"]
                   for day in answer)

    def second_day(self, answer):
        day, world = answer[1], self.world
        return (world.value("SELECT price FROM hotels WHERE hotel = ?", day["hotel"]),
                world.row("SELECT price, rating FROM restaurants WHERE restaurant = ?", day["afternoon_restaurant"]),
                world.row("SELECT price, rating FROM restaurants WHERE restaurant = ?", day["evening_restaurant"]),
                world.value("SELECT ticket FROM attractions WHERE attraction = ?", day["afternoon_attraction"]))

    def luxury_rule(self, answer, changes):
        price, lunch, dinner, ticket = known = self.second_day(answer)
        if None in known or price < 800:
            return True
        return (lunch["price"] + dinner["price"] < 350 and lunch["rating"] >= 4.0 and dinner["rating"] >= 4.0
                and ticket < 120)

    def middle_rule(self, answer, changes):
        price, lunch, dinner, ticket = known = self.second_day(answer)
        if None in known or not 500 <= price < 800:
            return True
        return (lunch["rating"] >= 4.0 or dinner["rating"] >= 4.0) and ticket < 180

    def modest_rule(self, answer, changes):
        price, lunch, dinner, ticket = known = self.second_day(answer)
        if None in known or not 200 <= price < 500:
            return True
        return lunch["rating"] >= 3.2 or dinner["rating"] >= 3.2


class LibraryLoans(Environment):
    name = "library_loans"
    watched = (("loans", "loan_id"), ("holds", "hold_id"), ("copies", "copy_id"), ("books", "book_id"),
               ("members", "member_id"))
    writing = ("lend_copy", "return_copy", "renew_loan", "serve_hold")

    def find_book(self, title):
        return need(self.world.row("SELECT book_id, author, genre, pages FROM books WHERE title = ?", title), title)

    def find_member(self, member_name):
        return need(self.world.row("SELECT member_id, home_branch FROM members WHERE member_name = ?", member_name),
                    member_name)

    def list_copies(self, book_id):
        rows = self.world.rows("SELECT copy_id, branch, EXISTS (SELECT 1 FROM loans WHERE loans.copy_id = copies.copy_id "
                               "AND returned_on IS NULL) AS on_loan FROM copies WHERE book_id = ? ORDER BY copy_id", book_id)
        return [{**row, "on_loan": row["on_loan"] == 1} for row in rows]

    def list_member_loans(self, member_id):
        return self.world.rows("SELECT loan_id, copy_id, book_id, lent_on, due_on FROM loans JOIN copies USING (copy_id) "
                               "WHERE member_id = ? AND returned_on IS NULL ORDER BY loan_id", member_id)

    def list_holds(self, book_id):
        return self.world.rows("SELECT hold_id, member_id, placed_on FROM holds WHERE book_id = ? AND served_on IS NULL "
                               "ORDER BY hold_id", book_id)

    def lend_copy(self, copy_id, member_id, on_date, due_on):
        world = self.world
        need(world.row("SELECT copy_id FROM copies WHERE copy_id = ?", copy_id), "copy")
        need(world.row("SELECT member_id FROM members WHERE member_id = ?", member_id), "member")
        if world.row("SELECT loan_id FROM loans WHERE copy_id = ? AND returned_on IS NULL", copy_id):
            raise ValueError("on loan")
        loan_id = world.value("SELECT max(loan_id) + 1 AS next_id FROM loans")
        world.db.execute("INSERT INTO loans VALUES (?, ?, ?, ?, ?, NULL)", (loan_id, copy_id, member_id, on_date, due_on))
        return {"loan_id": loan_id}

    def return_copy(self, loan_id, on_date):
        loan = need(self.world.row("SELECT copy_id FROM loans WHERE loan_id = ? AND returned_on IS NULL", loan_id), "loan")
        self.world.db.execute("UPDATE loans SET returned_on = ? WHERE loan_id = ?", (on_date, loan_id))
        return {"copy_id": loan["copy_id"]}

    def renew_loan(self, loan_id, due_on):
        loan = need(self.world.row("SELECT due_on FROM loans WHERE loan_id = ? AND returned_on IS NULL", loan_id), "loan")
        if due_on <= loan["due_on"]:
            raise ValueError("already due")
        self.world.db.execute("UPDATE loans SET due_on = ? WHERE loan_id = ?", (due_on, loan_id))
        return {"due_on": due_on}

    def serve_hold(self, hold_id, on_date):
        need(self.world.row("SELECT hold_id FROM holds WHERE hold_id = ? AND served_on IS NULL", hold_id), "hold")
        self.world.db.execute("UPDATE holds SET served_on = ? WHERE hold_id = ?", (on_date, hold_id))
        return {"hold_id": hold_id}

    # The checks of t1_l3.

    def checks(self):
        return (self.taken_back, self.names_returned, self.lent_to_holders, self.holds_marked, self.names_served,
                self.lent_once, self.lowest_free_copy, self.names_copy)

    def member_id(self):
        return self.world.value("SELECT member_id FROM members WHERE member_name = 'Mei Okafor'")

    def overdue(self):
        return self.world.rows("SELECT loan_id, copy_id, book_id FROM loans JOIN copies USING (copy_id) WHERE member_id = ? "
                               "AND lent_on < '2025-03-10' AND due_on < '2025-03-10' "
                               "AND (returned_on IS NULL OR returned_on = '2025-03-10') ORDER BY copy_id, loan_id",
                               self.member_id())

    def due_services(self):
        services, used = [], set()
        for loan in self.overdue():
            for hold in self.world.rows("SELECT hold_id, member_id FROM holds WHERE book_id = ? "
                                        "AND (served_on IS NULL OR served_on = '2025-03-10') ORDER BY placed_on, hold_id",
                                        loan["book_id"]):
                if hold["hold_id"] not in used:
                    used.add(hold["hold_id"])
                    services.append((loan["copy_id"], hold["hold_id"], hold["member_id"]))
                    break
        return services

    def day_loans(self, changes, copy_id, to):
        return changes.inserted("loans", copy_id=copy_id, member_id=to, lent_on="2025-03-10", due_on="2025-03-31",
                                returned_on=None)

    def lent(self, changes):
        by_hold = {copy for copy, _, _ in self.due_services()}
        found = []
        for copy in self.world.rows("SELECT copy_id FROM copies JOIN books USING (book_id) WHERE title = 'The Salt Road' "
                                    "ORDER BY copy_id"):
            if copy["copy_id"] not in by_hold:
                found += self.day_loans(changes, copy["copy_id"], self.member_id())
        return found

    def taken_back(self, answer, changes):
        return all(len(changes.updated("loans", loan_id=loan["loan_id"], returned_on="2025-03-10")) == 1
                   for loan in self.overdue())

    def names_returned(self, answer, changes):
        return answer["returned"] == [loan["copy_id"] for loan in self.overdue()]

    def lent_to_holders(self, answer, changes):
        return all(len(self.day_loans(changes, copy, member)) == 1 for copy, _, member in self.due_services())

    def holds_marked(self, answer, changes):
        return all(len(changes.updated("holds", hold_id=hold, served_on="2025-03-10")) == 1
                   for _, hold, _ in self.due_services())

    def names_served(self, answer, changes):
        return answer["served"] == [hold for _, hold, _ in self.due_services()]

    def lent_once(self, answer, changes):
        return len(self.lent(changes)) == 1

    def lowest_free_copy(self, answer, changes):
        lent = self.lent(changes)
        if not lent:
            return True
        taken = {copy for copy, _, _ in self.due_services()}
        for copy in self.world.rows("SELECT copy_id FROM copies JOIN books USING (book_id) WHERE title = 'The Salt Road' "
                                    "AND copy_id NOT IN (SELECT copy_id FROM loans WHERE returned_on IS NULL "
                                    "AND lent_on <> '2025-03-10') ORDER BY copy_id"):
            if copy["copy_id"] not in taken:
                return lent[0]["copy_id"] == copy["copy_id"]
        return False

    def names_copy(self, answer, changes):
        lent = self.lent(changes)
        return not lent or answer["lent"] == lent[0]["copy_id"]


class ExamTimetable(Environment):
    name = "exam_timetable"

    def column(self, sql, *params):
        return [next(iter(row.values())) for row in self.world.rows(sql, *params)]

    def list_exams(self):
        return self.column("SELECT exam FROM exams ORDER BY exam")

    def get_exam(self, exam):
        return need(self.world.row("SELECT teacher, minutes FROM exams WHERE exam = ?", exam), exam)

    def list_students(self, exam):
        need(self.world.row("SELECT exam FROM exams WHERE exam = ?", exam), exam)
        return self.column("SELECT student FROM enrolments WHERE exam = ? ORDER BY student", exam)

    def list_rooms(self):
        return self.world.rows("SELECT room, building, seats FROM rooms ORDER BY room")

    def list_slots(self):
        return self.world.rows("SELECT slot, on_date, starts FROM slots ORDER BY slot")

    def list_absences(self, teacher):
        return self.column("SELECT slot FROM absences WHERE teacher = ? ORDER BY slot", teacher)

    def list_bookings(self, room):
        need(self.world.row("SELECT room FROM rooms WHERE room = ?", room), room)
        return self.column("SELECT slot FROM bookings WHERE room = ? ORDER BY slot", room)

    # The checks of t1_l3.

    def checks(self):
        return (self.exams, self.listed, self.seats, self.teacher_there, self.room_free, self.own_room, self.one_a_day,
                self.long_ones_early, self.spread)

    def exams(self, answer, changes):
        return [one["exam"] for one in answer] == ["Civil Law", "Drawing", "Icelandic", "Algebra", "Hydraulics"]

    def listed(self, answer, changes):
        return all(self.world.row("SELECT slot FROM slots WHERE slot = ?", one["slot"])
                   and self.world.row("SELECT room FROM rooms WHERE room = ?", one["room"]) for one in answer)

    def seats(self, answer, changes):
        for one in answer:
            seats = self.world.value("SELECT seats FROM rooms WHERE room = ?", one["room"])
            students = self.world.value("SELECT count(*) FROM enrolments WHERE exam = ?", one["exam"])
            if seats is not None and seats < students:
                return False
        return True

    def teacher_there(self, answer, changes):
        return not any(self.world.row("SELECT slot FROM absences JOIN exams USING (teacher) WHERE exam = ? AND slot = ?",
                                      one["exam"], one["slot"]) for one in answer)

    def room_free(self, answer, changes):
        return not any(self.world.row("SELECT slot FROM bookings WHERE room = ? AND slot = ?", one["room"], one["slot"])
                       for one in answer)

    def own_room(self, answer, changes):
        return len({(one["slot"], one["room"]) for one in answer}) == len(answer)

    def shared(self, a, b):
        return a["exam"] != b["exam"] and self.world.row(
            "SELECT x.student FROM enrolments AS x JOIN enrolments AS y USING (student) WHERE x.exam = ? AND y.exam = ?",
            a["exam"], b["exam"])

    def one_a_day(self, answer, changes):
        dates = []
        for i, a in enumerate(answer):
            dates.append(self.world.value("SELECT on_date FROM slots WHERE slot = ?", a["slot"]))
            for j in range(i):
                if dates[i] and dates[i] == dates[j] and self.shared(a, answer[j]):
                    return False
        return True

    def long_ones_early(self, answer, changes):
        for one in answer:
            minutes = self.world.value("SELECT minutes FROM exams WHERE exam = ?", one["exam"])
            starts = self.world.value("SELECT starts FROM slots WHERE slot = ?", one["slot"])
            if minutes and starts and minutes > 90 and starts >= "12:00":
                return False
        return True

    def spread(self, answer, changes):
        held = {}
        for one in answer:
            building = self.world.value("SELECT building FROM rooms WHERE room = ?", one["room"])
            if building:
                held[building] = held.get(building, 0) + 1
                if held[building] > 3:
                    return False
        return True


ENVIRONMENTS = {e.name: e for e in (TripPlanning, LibraryLoans, ExamTimetable)}
