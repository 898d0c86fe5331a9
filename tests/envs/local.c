#include "tests/envs/local.h"

#include "tests/test.h"

#include <sqlite3.h>
#include <stdlib.h>

void local_init(struct local *l)
{
    *l = (struct local){.request = AGON_BUF(64 << 20), .reply = AGON_BUF(64 << 20)};
    l->cell = agon_env_cell_new();
}

void local_deinit(struct local *l)
{
    agon_env_cell_free(l->cell);
    agon_buf_deinit(&l->request);
    agon_buf_deinit(&l->reply);
}

void local_image(struct agon_buf *ret, const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
    if (!EXPECT(sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK))
        printf("# %s\n", why);
    sqlite3_int64 size = 0;
    unsigned char *image = sqlite3_serialize(db, "main", &size, 0);
    agon_buf_add(ret, image, (size_t)size);
    sqlite3_free(image);
    sqlite3_free(why);
    sqlite3_close(db);
}

int local_op(struct local *l, const char *name)
{
    agon_buf_reset(&l->reply);
    for (const struct agon_worker_op *op = agon_env_ops; op->name; op++)
        if (!strcmp(op->name, name)) {
            int r = op->run(l->cell, agon_buf_str(&l->request), &l->reply, &l->err);
            agon_buf_reset(&l->request);
            if (r < 0)
                printf("# %s: %s\n", name, l->err.text);
            return r;
        }
    return -1;
}

/* Strings in a reply are not NUL-terminated: copy the one at the cursor out. */
static const char *text_of(struct agon_wire *w)
{
    static char *text;
    struct agon_str s = agon_wire_str(w);
    free(text);
    text = strndup(s.data, s.size);
    return text;
}

static int status_and_text(struct local *l, int r, const char **ret_text)
{
    if (r < 0)
        return r;
    struct agon_wire w = agon_wire_of(agon_buf_str(&l->reply));
    int status = (int)agon_wire_int(&w);
    *ret_text = text_of(&w);
    return status;
}

int local_open(struct local *l, const char *world_sql, const char *tools, const char **ret_text)
{
    struct agon_buf image = AGON_BUF(64 << 20);
    if (world_sql)
        local_image(&image, world_sql);
    agon_wire_add_str(&l->request, agon_buf_str(&image));
    agon_wire_add_text(&l->request, tools);
    agon_buf_deinit(&image);
    return status_and_text(l, local_op(l, "env.open"), ret_text);
}

static void add_writes(struct local *l, const char *const *writes)
{
    int n = 0;
    while (writes && writes[2 * n])
        n++;
    agon_wire_add_int(&l->request, n);
    for (int i = 0; i < 2 * n; i++)
        agon_wire_add_text(&l->request, writes[i]);
}

int local_call(struct local *l, const char *const *writes, const char *tool, const char *arguments,
               const char **ret_text)
{
    add_writes(l, writes);
    agon_wire_add_text(&l->request, tool);
    agon_wire_add_text(&l->request, arguments);
    return status_and_text(l, local_op(l, "env.call"), ret_text);
}

int local_sql(struct local *l, const char *const *writes, const char *sql, const char **ret_text)
{
    add_writes(l, writes);
    agon_wire_add_text(&l->request, sql);
    return status_and_text(l, local_op(l, "env.sql"), ret_text);
}

int local_solve(struct local *l, const char *solution, const char *schema, const char **ret_text)
{
    agon_wire_add_text(&l->request, solution);
    agon_wire_add_text(&l->request, schema);
    agon_wire_add_int(&l->request, 0); /* no writes before it */
    int status = status_and_text(l, local_op(l, "env.solve"), ret_text);
    if (status == 0) {
        struct agon_wire w = agon_wire_of(agon_buf_str(&l->reply));
        (void)agon_wire_int(&w);
        (void)agon_wire_str(&w);
        *ret_text = text_of(&w);
    }
    return status;
}
