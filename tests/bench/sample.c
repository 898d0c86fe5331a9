/* The benchmark's world, tools and episodes: see sample.h. */
#include "tests/bench/sample.h"

#include "base/json.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { CITIES = 60, HOTELS = 4200, FLIGHTS = 5400, NAMES = CITIES + HOTELS + FLIGHTS };

#define CITY        "SELECT city FROM cities WHERE city = ?"
#define LIST_HOTELS "SELECT hotel, price, rating FROM hotels WHERE city = ? ORDER BY price LIMIT 5"
#define HOTEL       "SELECT city, price, rating, breakfast FROM hotels WHERE hotel = ?"
#define LIST_FLIGHTS \
    "SELECT flight, price, seats FROM flights WHERE from_city = ? AND to_city = ? ORDER BY flight"
#define FLIGHT "SELECT from_city, to_city, price, seats FROM flights WHERE flight = ?"
#define RANGE \
    "SELECT min(price) AS low, max(price) AS high, count(*) AS n FROM hotels WHERE city = ?"
#define BOOK       "INSERT INTO bookings VALUES (?, ?, ?, ?)"
#define SEAT       "UPDATE flights SET seats = seats - 1 WHERE flight = ?"
#define ROOM       "SELECT city, price FROM hotels WHERE hotel = ?"
#define CHEAPEST   "SELECT min(price) AS low FROM hotels WHERE city = ?"
#define LEG        "SELECT from_city, to_city FROM flights WHERE flight = ?"
#define ROOM_PRICE "SELECT price FROM hotels WHERE hotel = ?"
#define LEG_PRICE  "SELECT price FROM flights WHERE flight = ?"

const char *const sample_sql[SAMPLE_SQL] = {CITY,  LIST_HOTELS, HOTEL,    LIST_FLIGHTS, FLIGHT,
                                            RANGE, BOOK,        SEAT,     ROOM,         CHEAPEST,
                                            LEG,   ROOM_PRICE,  LEG_PRICE};

static const char schema_sql[] =
    "CREATE TABLE cities (city TEXT PRIMARY KEY, province TEXT NOT NULL) STRICT;"
    "CREATE TABLE hotels (hotel TEXT PRIMARY KEY, city TEXT NOT NULL, price INTEGER NOT NULL, "
    "rating REAL NOT NULL, breakfast INTEGER NOT NULL) STRICT;"
    "CREATE INDEX hotels_by_city ON hotels (city, price);"
    "CREATE TABLE flights (flight TEXT PRIMARY KEY, from_city TEXT NOT NULL, to_city TEXT NOT "
    "NULL, "
    "price INTEGER NOT NULL, seats INTEGER NOT NULL) STRICT;"
    "CREATE INDEX flights_by_leg ON flights (from_city, to_city, flight);"
    "CREATE TABLE bookings (booking INTEGER PRIMARY KEY, hotel TEXT NOT NULL, guest TEXT NOT NULL, "
    "nights INTEGER NOT NULL) STRICT;";

#define TEXT   "{\"type\": \"string\"}"
#define NUMBER "{\"type\": \"integer\"}"
#define NEED(fields, names) \
    "[[{\"type\": \"object\", \"properties\": {" fields "}, \"required\": [" names "]}]]"

/* Left alone, since each piece would move to the right of the last macro before it. */
/* clang-format off */
static const char tools[] =
    "local function known(world, city)\n"
    "  if not world:row(\"" CITY "\", city) then error('no city ' .. city, 0) end\n"
    "end\n"
    "tool{ name = 'list_hotels', description = 'The five cheapest hotels of a city.',\n"
    "  params = " NEED("\"city\": " TEXT, "\"city\"") ",\n"
    "  returns = [[{\"type\": \"array\", \"items\": {\"type\": \"object\", \"properties\": {"
    "\"hotel\": " TEXT ", \"price\": " NUMBER ", \"rating\": {\"type\": \"number\"}}}}]],\n"
    "  run = function(world, a) known(world, a.city)\n"
    "    return world:rows(\"" LIST_HOTELS "\", a.city) end }\n"
    "tool{ name = 'get_hotel', description = 'A hotel.',\n"
    "  params = " NEED("\"hotel\": " TEXT, "\"hotel\"") ",\n"
    "  returns = [[{\"type\": \"object\", \"properties\": {\"city\": " TEXT ", \"price\": " NUMBER
    ", \"rating\": {\"type\": \"number\"}, \"breakfast\": " NUMBER "}}]],\n"
    "  run = function(world, a) local row = world:row(\"" HOTEL "\", a.hotel)\n"
    "    if not row then error('no hotel ' .. a.hotel, 0) end return row end }\n"
    "tool{ name = 'find_flights', description = 'The flights from one city to another.',\n"
    "  params = " NEED("\"from_city\": " TEXT ", \"to_city\": " TEXT, "\"from_city\", \"to_city\"")
    ",\n"
    "  returns = [[{\"type\": \"array\", \"items\": {\"type\": \"object\", \"properties\": {"
    "\"flight\": " TEXT ", \"price\": " NUMBER ", \"seats\": " NUMBER "}}}]],\n"
    "  run = function(world, a) known(world, a.from_city) known(world, a.to_city)\n"
    "    return world:rows(\"" LIST_FLIGHTS "\", a.from_city, a.to_city) end }\n"
    "tool{ name = 'get_flight', description = 'A flight.',\n"
    "  params = " NEED("\"flight\": " TEXT, "\"flight\"") ",\n"
    "  returns = [[{\"type\": \"object\", \"properties\": {\"from_city\": " TEXT
    ", \"to_city\": " TEXT ", \"price\": " NUMBER ", \"seats\": " NUMBER "}}]],\n"
    "  run = function(world, a) local row = world:row(\"" FLIGHT "\", a.flight)\n"
    "    if not row then error('no flight ' .. a.flight, 0) end return row end }\n"
    "tool{ name = 'price_range', description = 'What hotels of a city cost.',\n"
    "  params = " NEED("\"city\": " TEXT, "\"city\"") ",\n"
    "  returns = [[{\"type\": \"object\", \"properties\": {\"low\": " NUMBER ", \"high\": " NUMBER
    ", \"n\": " NUMBER "}}]],\n"
    "  run = function(world, a) return world:row(\"" RANGE "\", a.city) end }\n"
    "tool{ name = 'book_room', description = 'Book a room.', writes = true,\n"
    "  params = " NEED("\"booking\": " NUMBER ", \"hotel\": " TEXT ", \"guest\": " TEXT
                       ", \"nights\": " NUMBER,
                       "\"booking\", \"hotel\", \"guest\", \"nights\"") ",\n"
    "  returns = [[{\"type\": \"object\", \"properties\": {\"booking\": " NUMBER "}}]],\n"
    "  run = function(world, a)\n"
    "    world:exec(\"" BOOK "\", a.booking, a.hotel, a.guest, a.nights)\n"
    "    return {booking = a.booking} end }\n"
    "tool{ name = 'take_seat', description = 'Take a seat of a flight.', writes = true,\n"
    "  params = " NEED("\"flight\": " TEXT, "\"flight\"") ",\n"
    "  returns = [[{\"type\": \"object\", \"properties\": {\"taken\": {\"type\": \"boolean\"}}}]],\n"
    "  run = function(world, a) return {taken = world:exec(\"" SEAT "\", a.flight) == 1} end }\n";
/* clang-format on */

#define ROOM_CHECK(claims)                                                            \
    "check{ name = 'room', text = 'The room is in the city and dearer than none.',\n" \
    "  run = function(world, answer, changes)\n"                                      \
    "    local room = world:row(\"" ROOM "\", answer.hotel)\n" claims                 \
    "    return room ~= nil and room.city == answer.city and room.price >= "          \
    "world:value(\"" CHEAPEST "\", answer.city) end }\n"
#define OTHER_CHECKS(claims)                                                               \
    "check{ name = 'leg', text = 'The flight ends in the city.',\n"                        \
    "  run = function(world, answer, changes)\n"                                           \
    "    local leg = world:row(\"" LEG "\", answer.flight)\n" claims                       \
    "    return leg ~= nil and leg.to_city == answer.city end }\n"                         \
    "check{ name = 'total', text = 'The total is right.', run = function(world, answer)\n" \
    "  return answer.total == world:value(\"" ROOM_PRICE "\", answer.hotel)\n"             \
    "    + world:value(\"" LEG_PRICE "\", answer.flight) end }\n"

static const char verifier[] = ROOM_CHECK("") OTHER_CHECKS("");
static const char writing_verifier[] = ROOM_CHECK(
    "    if #changes:inserted('bookings', {guest = 'Li Wei'}) ~= 2 then return false end\n")
    OTHER_CHECKS("    if #changes:updated('flights') ~= 2 then return false end\n");
static const char schema[] = "{\"type\": \"object\", \"properties\": {\"city\": " TEXT
                             ", \"hotel\": " TEXT ", \"flight\": " TEXT ", \"total\": " NUMBER
                             "}, \"required\": [\"city\", \"hotel\", \"flight\", \"total\"]}";

/* ---- the rows, made by a rule so that they are always the same ---- */

static const char *const syllables[] = {"ka",  "lo",  "mi",  "ren", "su",  "tar", "vel", "zo",
                                        "bri", "dun", "fes", "gol", "hap", "jin", "nor", "pel"};
static char names[NAMES][28];

static char *name_of(int i, const char *before)
{
    snprintf(names[i], sizeof(names[i]), "%s%s%s%s %d", before, syllables[i % 16],
             syllables[i / 16 % 16], syllables[i / 256 % 16], i);
    return names[i];
}

static char *city_name(int i)
{
    return names[i % CITIES];
}

static char *hotel_name(int i)
{
    return names[CITIES + i % HOTELS];
}

static char *flight_name(int i)
{
    return names[CITIES + HOTELS + i % FLIGHTS];
}

static int hotel_price(int i)
{
    return 200 + i * 37 % 900;
}

static int flight_price(int i)
{
    return 100 + i * 53 % 1500;
}

static int flight_to(int i)
{
    return (i + 1 + i / CITIES) % CITIES;
}

static void run(sqlite3 *db, const char *sql)
{
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error) == SQLITE_OK)
        return;
    fprintf(stderr, "bench: %s: %s\n", sql, error ? error : "?");
    exit(1);
}

static void fill(sqlite3 *db)
{
    char sql[512];
    run(db, "BEGIN");
    run(db, schema_sql);
    for (int i = 0; i < CITIES; i++) {
        snprintf(sql, sizeof(sql), "INSERT INTO cities VALUES ('%s', 'Province %d')",
                 name_of(i, "City "), i % 9);
        run(db, sql);
    }
    for (int i = 0; i < HOTELS; i++) {
        snprintf(sql, sizeof(sql), "INSERT INTO hotels VALUES ('%s', '%s', %d, %d.%d, %d)",
                 name_of(CITIES + i, "Hotel "), city_name(i), hotel_price(i), 3 + i % 2, i % 10,
                 i % 2);
        run(db, sql);
    }
    for (int i = 0; i < FLIGHTS; i++) {
        snprintf(sql, sizeof(sql), "INSERT INTO flights VALUES ('%s', '%s', '%s', %d, %d)",
                 name_of(CITIES + HOTELS + i, "FL "), city_name(i), city_name(flight_to(i)),
                 flight_price(i), 40 + i % 60);
        run(db, sql);
    }
    run(db, "COMMIT");
}

static void make_world(struct agon_buf *ret)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        exit(1);
    fill(db);
    sqlite3_int64 size = 0;
    unsigned char *bytes = sqlite3_serialize(db, "main", &size, 0);
    agon_buf_add(ret, bytes, (size_t)size);
    sqlite3_free(bytes);
    sqlite3_close(db);
}

/* ---- the episodes ---- */

static void step(struct sample_episode *e, enum sample_sql sql, const char *a, const char *b)
{
    e->steps[e->n_steps++] = (struct sample_step){sql, b ? 2 : 1, {a, b}, {0}};
}

/* tool{key = value, other_key = other}; other_key may be NULL. */
static void call(struct sample_episode *e, int i, const char *tool, const char *key,
                 const char *value, const char *other_key, const char *other)
{
    struct agon_buf b = AGON_BUF(1000);
    agon_buf_addf(&b, "{\"%s\": \"%s\"", key, value);
    if (other_key)
        agon_buf_addf(&b, ", \"%s\": \"%s\"", other_key, other);
    agon_buf_adds(&b, "}");
    char *text = agon_buf_steal(&b);
    if (!text)
        exit(1);
    e->calls[i] = (struct agon_play_call){agon_str(tool), agon_str(text)};
}

static void call_hotels(struct sample_episode *e, int i, const char *city)
{
    call(e, i, "list_hotels", "city", city, NULL, NULL);
    step(e, SQL_CITY, city, NULL);
    step(e, SQL_HOTELS, city, NULL);
}

static void call_hotel(struct sample_episode *e, int i, const char *hotel)
{
    call(e, i, "get_hotel", "hotel", hotel, NULL, NULL);
    step(e, SQL_HOTEL, hotel, NULL);
}

static void call_flights(struct sample_episode *e, int i, const char *from, const char *to)
{
    call(e, i, "find_flights", "from_city", from, "to_city", to);
    step(e, SQL_CITY, from, NULL);
    step(e, SQL_CITY, to, NULL);
    step(e, SQL_FLIGHTS, from, to);
}

static void call_flight(struct sample_episode *e, int i, const char *flight)
{
    call(e, i, "get_flight", "flight", flight, NULL, NULL);
    step(e, SQL_FLIGHT, flight, NULL);
}

static void call_book(struct sample_episode *e, int i, int booking, const char *hotel)
{
    char *text = NULL;
    if (asprintf(&text,
                 "{\"booking\": %d, \"hotel\": \"%s\", \"guest\": \"Li Wei\", \"nights\": 3}",
                 booking, hotel) < 0)
        exit(1);
    e->calls[i] = (struct agon_play_call){agon_str("book_room"), agon_str(text)};
    e->steps[e->n_steps++] =
        (struct sample_step){SQL_BOOK, 4, {NULL, hotel, "Li Wei", NULL}, {booking, 0, 0, 3}};
}

static void call_seat(struct sample_episode *e, int i, const char *flight)
{
    call(e, i, "take_seat", "flight", flight, NULL, NULL);
    step(e, SQL_SEAT, flight, NULL);
}

static void make_episode(struct sample_episode *e, int n, bool writing)
{
    int hotel = 7 + n * 61, flight = 11 + n * 83;
    const char *city = city_name(hotel), *other = city_name(hotel + 1 + n);
    while (flight_to(flight) != hotel % CITIES)
        flight++;
    call_hotels(e, 0, city);
    call_flights(e, 3, city, other);
    call_hotels(e, 5, other);
    call_flights(e, 8, other, city);
    call_hotel(e, 6, hotel_name(hotel));
    if (writing) {
        call_book(e, 1, 2 * n + 1, hotel_name(hotel));
        call_book(e, 2, 2 * n + 2, hotel_name(hotel + 5));
        call_seat(e, 4, flight_name(flight));
        call_seat(e, 9, flight_name(flight + 3));
    } else {
        call_hotel(e, 1, hotel_name(hotel + 3));
        call_hotel(e, 2, hotel_name(hotel + 5));
        call_flight(e, 4, flight_name(flight));
        call_flight(e, 9, flight_name(flight + 3));
    }
    call(e, 7, "price_range", "city", city, NULL, NULL);
    step(e, SQL_RANGE, city, NULL);
    step(e, SQL_ROOM, hotel_name(hotel), NULL);
    step(e, SQL_CHEAPEST, city, NULL);
    step(e, SQL_LEG, flight_name(flight), NULL);
    step(e, SQL_ROOM_PRICE, hotel_name(hotel), NULL);
    step(e, SQL_LEG_PRICE, flight_name(flight), NULL);
    if (asprintf(&e->answer,
                 "{\"city\": \"%s\", \"hotel\": \"%s\", \"flight\": \"%s\", \"total\": %d}", city,
                 hotel_name(hotel), flight_name(flight),
                 hotel_price(hotel % HOTELS) + flight_price(flight % FLIGHTS)) < 0)
        exit(1);
}

void sample_make(struct sample *ret)
{
    struct agon_err err;
    *ret = (struct sample){.world = AGON_BUF(8 << 20),
                           .tools = tools,
                           .verifier = verifier,
                           .writing_verifier = writing_verifier};
    make_world(&ret->world);
    if (agon_json_parse(&ret->schema, agon_str(schema), &err))
        exit(1);
    for (int i = 0; i < SAMPLE_EPISODES; i++) {
        make_episode(&ret->reading[i], i, false);
        make_episode(&ret->writing[i], i, true);
    }
}

static void free_episode(struct sample_episode *e)
{
    for (int i = 0; i < SAMPLE_CALLS; i++)
        free((void *)(uintptr_t)e->calls[i].arguments.data);
    free(e->answer);
}

void sample_free(struct sample *s)
{
    for (int i = 0; i < SAMPLE_EPISODES; i++) {
        free_episode(&s->reading[i]);
        free_episode(&s->writing[i]);
    }
    json_decref(s->schema);
    agon_buf_deinit(&s->world);
}
