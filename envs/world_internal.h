#pragma once
/* What the files of the world share: world.c, world_guard.c, world_schema.c, statement.c,
 * changes.c, perturb.c. */
#define SQLITE_ENABLE_PREUPDATE_HOOK 1
#include "base/buf.h"
#include "base/uthash.h"
#include "envs/changes.h"
#include "envs/world.h"
#include "sandbox/script_record.h"

#include <sqlite3.h>

enum {
    STATEMENTS_MAX = 128,          /* cached for each principal, and used by one entry */
    PREPARED_BYTES_MAX = 16 << 20, /* of SQLite's memory that they take, as many again in all */
    BYTES_OP = 256,                /* bytes of a long value that are charged like an operation */
    BYTES_DEARER = 16384,          /* and so many in one value make each operation dearer by one */
    SHAPES_BYTES_MAX = 4 << 20,    /* of the shapes of statements that one entry uses */
};

struct world_shape {
    struct agon_shape shape; /* names are these: */
    struct world_shape *next;
    size_t bytes;
    struct agon_script_name *in_lua; /* the same names; lie after these: */
    char *names[];                   /* owned */
};

struct agon_statement {
    char *sql; /* owned, the key */
    struct agon_world *world;
    sqlite3_stmt *stmt; /* owned */
    enum agon_principal by;
    bool writes;
    int n_columns, n_params;
    uint64_t noted;            /* in which round its reads were noted */
    struct world_shape *shape; /* owned; outlives it until the entry ends */
    uint8_t *reads;            /* a byte for each column of the world */
    uint8_t *tables;           /* a byte for each table: it reads of it, if only that it has rows */
    uint64_t entry;            /* the last one that used it */
    size_t bytes;              /* of SQLite's memory that it takes */
    bool busy;                 /* stepped and not ended */
    UT_hash_handle hh;
};

struct plan { /* of a perturbation */
    uint64_t seed;
    int draw;
    uint8_t *columns; /* a byte for each column of the world; NULL: not perturbed */
};

enum control {
    CONTROL_BEGIN,
    CONTROL_ROLLBACK,
    CONTROL_BASE,
    CONTROL_TO_BASE,
    CONTROL_CALL,
    CONTROL_KEEP,
    CONTROL_UNDO,
    N_CONTROLS
};

struct agon_memo;

/* What a call that is being made reads and writes (recall.h). */
struct world_trace {
    uint8_t *reads, *tables;    /* owned by reads: a byte for each column, a byte for each table */
    struct agon_buf statements; /* that wrote: each its address, then its parameters */
    bool open;                  /* one has begun and not ended */
    bool void_call;             /* one failed: the list is not what happened */
};

struct agon_world {
    sqlite3 *db;
    struct agon_table *tables;
    int n_tables, n_columns;
    sqlite3_stmt *control[N_CONTROLS];
    struct agon_statement *cached[2][AGON_N_PRINCIPALS]; /* [writes][by]: hash tables by text */
    struct agon_statement *current; /* being prepared or stepped: what the authorizer goes by */
    int trusted;                    /* > 0: our own statements */
    int64_t statement_ops; /* of the statement that runs, in steps of the progress handler */
    int64_t bulk_bytes;    /* of long values that the statement made or walked */
    size_t largest,
        largest_bound; /* value of the statement that runs; of the next one's parameters */
    char bound[512];   /* texts of the parameters of the statement that runs */
    size_t bound_size;
    int64_t run_ops;          /* of the run, up to now */
    int64_t statement_cpu_ns; /* when its first budget step came; 0: not yet */
    int64_t ops_max;          /* of one statement of a tool or a verifier */
    bool query_only, reverse, guarded;
    bool notes_checks; /* what checks read is noted, too */
    int64_t changes_before; /* rows changed in all when query_only was set */
    bool in_call;           /* the savepoint of a call stands */
    bool clean;             /* nothing was written since the reset */
    int64_t state;          /* its number where it is known, 0: as after the reset; or -1 */
    struct plan plan;
    bool based;           /* the savepoint under which a perturbation lies stands */
    uint8_t *reads;       /* what tools read */
    uint64_t reads_round; /* from 1; one more each time they are forgotten */
    struct change_log log;
    uint64_t entry;              /* the number of the entry into Lua at hand */
    int entry_used;              /* statements that it has used since it last dropped its own */
    size_t entry_bytes;          /* of SQLite's memory that these take */
    size_t entry_shapes;         /* bytes of the shapes of all that it has used */
    struct world_shape *dropped; /* owned: of those that it has dropped */
    size_t statements_bytes;     /* of SQLite's memory, of all that are cached */
    struct agon_memo *memo;      /* owned; NULL until a verifier reads */
    struct world_trace *trace;   /* borrowed; NULL: nobody records */
    uint64_t rows_round;         /* from 1; one more each time that what was read is forgotten */
};

/* world_guard.c: limits, authorizer, clock, budgets. */
int world_guard(struct agon_world *w, struct agon_err *err);
void world_unguard(struct agon_world *w);
bool world_function_allowed(const char *name);
/* world_intake.c: AGON_WORLD_REFUSED with a sentence where the schema calls what statements may
 * not. */
int world_check_functions(struct agon_world *w, struct agon_err *err);
bool world_sql_has_word(const char *sql, const char *word);
/* world_image.c: does this image, whose schema was read, surely pass quick_check? false: ask it. */
bool world_image_is_sound(const struct agon_world *w, struct agon_str bytes);
int world_open_memory(sqlite3 **ret, struct agon_err *err);
/* Charge the statement that runs for work on so many bytes; interrupts it where it has no more. */
void world_charge(struct agon_world *w, size_t bytes);
/* world_functions.c: our own instr, replace, trim, substr, like and glob. */
int world_functions(struct agon_world *w, struct agon_err *err);
/* world_match.c */
void world_fn_like(sqlite3_context *c, int n, sqlite3_value **args);
void world_fn_glob(sqlite3_context *c, int n, sqlite3_value **args);
/* world_schema.c: fills tables; AGON_WORLD_REFUSED with a sentence. */
int world_read_schema(struct agon_world *w, struct agon_err *err);
void world_tables_free(struct agon_world *w);
/* statement.c */
/* A tool's statement runs: its columns are read. */
void world_note_reads(struct agon_statement *st);
void world_flush_statements(struct agon_world *w);
/* recall.c */
void world_trace_read(struct world_trace *t, const struct agon_statement *st);
void world_trace_write(struct world_trace *t, struct agon_statement *st);
void world_trace_param(struct world_trace *t, char type, const void *data, size_t size);
/* memo.c */
void world_memo_flush(struct agon_world *w);
/* The world is not what it was a moment ago; what is known of the clean one stays. */
void world_memo_changed(struct agon_world *w);
void world_memo_free(struct agon_world *w);
/* perturb.c: applies w->plan inside the open transaction. */
int world_apply_plan(struct agon_world *w, struct agon_err *err);
/* Trusted SQL without results. */
int world_exec(struct agon_world *w, const char *sql, struct agon_err *err);
/* What the statement at hand may still take, its bytes counted as operations. */
int64_t world_ops_left(const struct agon_world *w);
/* AGON_ESTORE with SQLite's words. */
int world_fail(struct agon_world *w, const char *what, struct agon_err *err);
