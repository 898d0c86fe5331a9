/* See samples.h. */
#include "tests/fuzz/samples.h"

#include "envs/world.h"
#include "tests/envs/samples.h"

#include <assert.h>
#include <sqlite3.h>

struct agon_world *fuzz_world(void)
{
    sqlite3 *db = NULL;
    sqlite3_int64 size = 0;
    struct agon_world *w = NULL;
    struct agon_err err;
    assert(sqlite3_open(":memory:", &db) == SQLITE_OK);
    assert(sqlite3_exec(db, sample_world, NULL, NULL, NULL) == SQLITE_OK);
    unsigned char *image = sqlite3_serialize(db, "main", &size, 0);
    assert(image);
    assert(agon_world_open(&w, (struct agon_str){(char *)image, (size_t)size}, &err) == 0);
    sqlite3_free(image);
    sqlite3_close(db);
    return w;
}
