#pragma once
/*
 * What the benchmark of the runtime works on: a world of one megabyte, tools, a
 * verifier, episodes of ten calls with an answer, and for each episode the plain
 * list of its SQL statements, which the floor runs. One text of each statement
 * serves both.
 */
#include "verifiers/playback.h"

enum {
    SAMPLE_EPISODES = 64, /* all different */
    SAMPLE_CALLS = 10,
    SAMPLE_STATEMENTS = 21,
    SAMPLE_WRITES = 4,
    SAMPLE_VERDICT = 5, /* of the statements: the last ones are the verifier's */
};

enum sample_sql {
    SQL_CITY,
    SQL_HOTELS,
    SQL_HOTEL,
    SQL_FLIGHTS,
    SQL_FLIGHT,
    SQL_RANGE,
    SQL_BOOK,
    SQL_SEAT,
    SQL_ROOM,
    SQL_CHEAPEST,
    SQL_LEG,
    SQL_ROOM_PRICE,
    SQL_LEG_PRICE,
    SAMPLE_SQL
};
extern const char *const sample_sql[SAMPLE_SQL];

struct sample_step { /* a statement; text NULL: bind number */
    enum sample_sql sql;
    int n_params;
    const char *text[4];
    int64_t number[4];
};
struct sample_episode {
    struct agon_play_call calls[SAMPLE_CALLS];
    struct sample_step steps[SAMPLE_STATEMENTS];
    int n_steps;
    char *answer; /* owned */
};
struct sample {
    struct agon_buf world; /* an SQLite file */
    const char *tools, *verifier, *writing_verifier;
    json_t *schema; /* owned: of the answer */
    struct sample_episode reading[SAMPLE_EPISODES], writing[SAMPLE_EPISODES];
};
/* Ends the program where something fails. */
void sample_make(struct sample *ret);
void sample_free(struct sample *s);
