#include "tests/envs/samples.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

const char sample_world[] =
    "CREATE TABLE hotel (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, city TEXT NOT NULL,"
    "  price REAL, stars INTEGER) STRICT;"
    "INSERT INTO hotel VALUES (1, 'Astoria', 'Wien', 120, 4), (2, 'Béla', 'Budapest', 80.5, NULL),"
    "  (3, 'Corso', 'Wien', NULL, 3);"
    "CREATE TABLE booking (id INTEGER PRIMARY KEY, hotel_id INTEGER NOT NULL REFERENCES hotel(id),"
    "  guest TEXT NOT NULL, nights INTEGER NOT NULL CHECK (nights > 0)) STRICT;";

const char sample_tools[] =
    "tool{ name='hotels', description='Hotels of a city', "
    "params=[[{\"type\":\"object\",\"properties\":"
    "{\"city\":{\"type\":\"string\",\"description\":\"the city\"}},\"required\":[\"city\"]}]],"
    " returns=[[{\"type\":\"array\",\"items\":{\"type\":\"object\"}}]],"
    " run=function(world, a) return world:rows('SELECT name, price, id FROM hotel WHERE city = ? "
    "ORDER BY id', a.city) end }\n"
    "tool{ name='book', description='Book a hotel', writes=true, "
    "params=[[{\"type\":\"object\",\"properties\":"
    "{\"hotel\":{\"type\":\"string\",\"description\":\"its "
    "name\"},\"guest\":{\"type\":\"string\",\"description\":\"who\"},"
    "\"nights\":{\"type\":\"integer\",\"minimum\":1,\"default\":1,\"description\":\"how "
    "many\"}},\"required\":[\"hotel\",\"guest\"]}]],"
    " returns=[[{\"type\":\"object\",\"properties\":{\"booking\":{\"type\":\"integer\"},\"nights\":"
    "{\"type\":\"integer\"}}}]],"
    " run=function(world, a)\n"
    "  local id = world:value('SELECT id FROM hotel WHERE name = ?', a.hotel)\n"
    "  if not id then error('there is no hotel ' .. a.hotel) end\n"
    "  world:exec('INSERT INTO booking (hotel_id, guest, nights) VALUES (?, ?, ?)', id, a.guest, "
    "a.nights)\n"
    "  if a.guest == 'Nobody' then error('nobody may not book') end\n"
    "  return { nights = a.nights, booking = world:value('SELECT max(id) FROM booking') }\n"
    " end }\n"
    "tool{ name='bookings', description='All bookings', params=[[{\"type\":\"object\"}]],"
    " returns=[[{\"type\":\"array\",\"items\":{\"type\":\"object\"}}]],"
    " run=function(world) return world:rows('SELECT id, guest FROM booking ORDER BY id') end }\n";

int sample_world_file(char *path)
{
    int fd = mkstemp(path);
    sqlite3 *db = NULL;
    if (fd < 0)
        return -1;
    int rc = sqlite3_open(path, &db);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sample_world, NULL, NULL, NULL);
    sqlite3_close(db);
    close(fd);
    return rc == SQLITE_OK ? 0 : -1;
}
