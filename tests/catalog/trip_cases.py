"""An independent judge of trip_planning, written from the report's text and not from the verifier.

usage: trip_cases.py WORLD.sql SEED N

Prints N cases for each task as JSON lines {"task", "answer", "fails"}: random plans, most of them
nearly right, and the names of the checks that they break by this file's own reading.
"""
import json
import random
import sqlite3
import sys

DATES = ["2025-10-01", "2025-10-02", "2025-10-03"]
START = "Hangzhou"


class World:
    def __init__(self, path):
        db = sqlite3.connect(":memory:")
        db.executescript(open(path, encoding="utf-8").read())
        self.cities = [c for (c,) in db.execute("SELECT city FROM cities")]
        self.hotels = {h: (c, p) for h, c, p in db.execute("SELECT hotel, city, price FROM hotels")}
        self.food = {r: (c, p, s) for r, c, p, s in db.execute("SELECT restaurant, city, price, rating FROM restaurants")}
        self.sights = {a: (c, t) for a, c, t in db.execute("SELECT attraction, city, ticket FROM attractions")}
        self.sky = {(c, d): s for c, d, s in db.execute("SELECT city, on_date, sky FROM weather")}
        self.trains = {(a, b): m for a, b, m in db.execute(
            "SELECT from_city, to_city, minutes FROM inter_city_transport WHERE vehicle = 'train'")}


def lies_in(world, day, city):
    return (world.hotels.get(day["hotel"], (None,))[0] == city
            and world.food.get(day["afternoon_restaurant"], (None,))[0] == city
            and world.food.get(day["evening_restaurant"], (None,))[0] == city
            and world.sights.get(day["afternoon_attraction"], (None,))[0] == city)


def broken_one_day(world, plan):
    day, broken = plan[0], set()
    if day["time"] != DATES[0] or day["city"] != START:
        broken.add("day_and_city")
    if day["hotel"] in world.hotels and not world.hotels[day["hotel"]][1] < 500:
        broken.add("hotel_price")
    if not lies_in(world, day, START):
        broken.add("in_city")
    if day["afternoon_restaurant"] == day["evening_restaurant"]:
        broken.add("two_meals")
    return broken


def has_repeats(plan):
    cities = [d["city"] for d in plan]
    hotels = [d["hotel"] for d in plan]
    sights = [d["afternoon_attraction"] for d in plan]
    meals = [d["afternoon_restaurant"] for d in plan] + [d["evening_restaurant"] for d in plan]
    return any(len(set(names)) < len(names) for names in (cities, hotels, sights, meals))


def broken_budget(world, day):
    """The class rule of day 2 that is broken, or None. Classes are half-open, below 200 there is no rule."""
    try:
        price = world.hotels[day["hotel"]][1]
        (_, cost1, stars1), (_, cost2, stars2) = world.food[day["afternoon_restaurant"]], world.food[day["evening_restaurant"]]
        ticket = world.sights[day["afternoon_attraction"]][1]
    except KeyError:
        return None
    best, worst = max(stars1, stars2), min(stars1, stars2)
    if price >= 800:
        return None if cost1 + cost2 < 350 and worst >= 4.0 and ticket < 120 else "luxury_rule"
    if 500 <= price < 800:
        return None if best >= 4.0 and ticket < 180 else "middle_rule"
    if 200 <= price < 500:
        return None if best >= 3.2 else "modest_rule"
    return None


def broken_trip(world, plan, level):
    broken = set()
    if [d["time"] for d in plan] != DATES:
        broken.add("days")
    if plan[0]["city"] != START:
        broken.add("start")
    if has_repeats(plan):
        broken.add("no_repeats")
    if not all(lies_in(world, d, d["city"]) for d in plan):
        broken.add("in_city")
    if level >= 3 and broken_budget(world, plan[1]):
        broken.add(broken_budget(world, plan[1]))
    if level >= 4:
        if any(world.sky.get((d["city"], d["time"])) == "rain" for d in plan):
            broken.add("dry")
        for a, b in zip(plan, plan[1:]):
            legs = (a["city"], b["city"])
            if legs[0] != legs[1] and all(c in world.cities for c in legs) and world.trains.get(legs, 10**6) > 240:
                broken.add("trains")
    return broken


def random_day(rng, world, city, date):
    own = lambda table: [name for name in table if table[name][0] == city]
    return {"time": date, "city": city, "hotel": rng.choice(own(world.hotels)),
            "afternoon_restaurant": rng.choice(own(world.food)), "afternoon_attraction": rng.choice(own(world.sights)),
            "evening_restaurant": rng.choice(own(world.food))}


def random_plan(rng, world, n_days):
    cities = [START] + rng.sample([c for c in world.cities if c != START], n_days - 1)
    plan = [random_day(rng, world, c, d) for c, d in zip(cities, DATES)]
    if rng.random() < 0.4:  # spoil one place
        day, key = rng.choice(plan), rng.choice(list(plan[0]))
        everything = {"time": DATES, "city": world.cities, "hotel": list(world.hotels),
                      "afternoon_restaurant": list(world.food), "afternoon_attraction": list(world.sights),
                      "evening_restaurant": list(world.food)}
        day[key] = rng.choice(everything[key] + ["Nowhere"])
    if rng.random() < 0.1:
        rng.shuffle(plan)
    return plan


def main():
    world, seed, n = World(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for level in range(1, 5):
        made = passed = 0
        while made < n:
            plan = random_plan(rng, world, 1 if level == 1 else 3)
            broken = broken_one_day(world, plan) if level == 1 else broken_trip(world, plan, level)
            if broken and passed * 3 < made:  # keep about a quarter of right ones: they are rare at the top
                if rng.random() < 0.9:
                    continue
            made += 1
            passed += not broken
            print(json.dumps({"task": "t1_l%d" % level, "answer": plan, "fails": sorted(broken)}))


if __name__ == "__main__":
    main()
