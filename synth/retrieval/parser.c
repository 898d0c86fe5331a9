/* Boxed parsing as the driver sees it: see parser.h. */
#include "synth/retrieval/parser.h"

#include "base/log.h"
#include "base/text.h"
#include "envs/wire.h"
#include "sandbox/cell.h"
#include "sandbox/frame.h"
#include "synth/retrieval/robots.h"

#include <stdlib.h>

enum { PARSER_TRIES = 2, LINKS_MAX = 2000, NUMBER_BYTES_MAX = 40 };

struct agon_parser {
    struct agon_sandbox *sandbox; /* borrowed */
    struct agon_cell *cell;       /* owned; NULL: not open */
    struct agon_buf request, reply;
    struct agon_words_link *links; /* owned; those of the last words */
};

int agon_parser_new(struct agon_parser **ret, struct agon_sandbox *sandbox, struct agon_err *err)
{
    struct agon_parser *p = calloc(1, sizeof(*p));
    if (!p)
        return agon_fail(err, AGON_ENOMEM, "parser: out of memory");
    p->sandbox = sandbox;
    p->request = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX);
    p->reply = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX);
    *ret = p;
    return 0;
}

void agon_parser_free(struct agon_parser *p)
{
    if (!p)
        return;
    free(p->links);
    agon_cell_free(p->cell);
    agon_buf_deinit(&p->request);
    agon_buf_deinit(&p->reply);
    free(p);
}

/* ---- requests */

static void add_text(struct agon_buf *b, const char *text)
{
    agon_wire_add_str(b, (struct agon_str){text, strlen(text) + 1});
}

static void add_option(struct agon_buf *b, const char *text)
{
    agon_wire_add_int(b, text != NULL);
    add_text(b, text ? text : "");
}

static void request_begin(struct agon_parser *p, const struct agon_document *d)
{
    agon_buf_reset(&p->request);
    add_text(&p->request, d->address);
    agon_wire_add_int(&p->request, d->kind);
    agon_wire_add_str(&p->request, d->body);
}

/* What a reply means: 0, an outcome, AGON_EINPUT where it means nothing, AGON_ENOMEM. */
typedef int decode_fn(struct agon_parser *p, struct agon_wire *w, void *ret, struct agon_err *err);

static int parser_try(struct agon_parser *p, const char *op, decode_fn *decode, void *ret,
                      struct agon_err *err)
{
    char reason[128];
    struct agon_err why = {0};
    int r = p->cell ? 0 : agon_cell_new_parser(&p->cell, p->sandbox, err);
    if (r ||
        (r = agon_cell_call(p->cell, op, agon_buf_str(&p->request), &p->reply, reason, err)) < 0)
        return r;
    struct agon_wire w = agon_wire_of(agon_buf_str(&p->reply));
    if (r == 0)
        r = decode(p, &w, ret, &why);
    else
        r = agon_fail(&why, AGON_EINPUT, "%s", reason);
    if (r > 0)
        *err = why;
    if (r >= 0)
        return r;
    agon_cell_free(AGON_STEAL(p->cell));
    return r == AGON_EINPUT ? (void)agon_fail(err, r, "%s", why.text),
           AGON_PARSER_LOST : agon_fail(err, r, "%s", why.text);
}

static int parser_call(struct agon_parser *p, const char *op, const struct agon_document *d,
                       decode_fn *decode, void *ret, struct agon_err *err)
{
    struct agon_err why = {0};
    int r = agon_buf_check(&p->request, "parser: request", &why);
    if (r == 0)
        r = AGON_PARSER_LOST;
    for (int tries = 0; r == AGON_PARSER_LOST && tries < PARSER_TRIES; tries++) {
        r = parser_try(p, op, decode, ret, &why);
        if (r == AGON_PARSER_LOST)
            agon_log(AGON_LOG_WARN, "parser", "%.200s: %s", d->address, why.text);
    }
    if (r < 0)
        return agon_fail(err, r, "parser: %s", why.text);
    if (r == AGON_PARSER_LOST) /* the reason may differ from run to run: it is in the log */
        (void)agon_fail(err, AGON_EINPUT, "%.200s can't be read: its parser was lost %d times",
                        d->address, PARSER_TRIES);
    else if (r > 0 && err)
        *err = why;
    return r;
}

/* What a good parser sends is UTF-8 without NUL, so what is not comes from one that was taken over.
 */
static struct agon_str take_str(struct agon_wire *w)
{
    struct agon_str s = agon_wire_str(w);
    w->bad = w->bad || !agon_utf8_valid(s) || (s.size > 0 && memchr(s.data, '\0', s.size));
    return w->bad ? agon_str("") : s;
}

/* The same, ending with its NUL. */
static const char *take_text(struct agon_wire *w)
{
    struct agon_str s = agon_wire_str(w);
    w->bad = w->bad || s.size == 0 || memchr(s.data, '\0', s.size) != s.data + s.size - 1 ||
             !agon_utf8_valid(s);
    return w->bad ? "" : s.data;
}

/* ---- what fetch shows */

static int decode_render(struct agon_parser *p, struct agon_wire *w, void *ret,
                         struct agon_err *err)
{
    (void)p;
    struct agon_str *text = ret;
    *text = take_str(w);
    return agon_wire_end(w, "doc.render", err);
}

int agon_parser_render(struct agon_parser *p, const struct agon_document *d, struct agon_buf *text,
                       struct agon_err *err)
{
    struct agon_str shown;
    request_begin(p, d);
    int r = parser_call(p, "doc.render", d, decode_render, &shown, err);
    if (r)
        return r;
    agon_buf_add_str(text, shown);
    return agon_buf_check(text, "fetch", err);
}

/* ---- words */

static int decode_words(struct agon_parser *p, struct agon_wire *w, void *ret, struct agon_err *err)
{
    struct agon_words words = {.title = take_text(w), .text = take_str(w)};
    words.summary = take_text(w);
    words.n_links = agon_wire_count(w);
    if (words.n_links > LINKS_MAX)
        return agon_fail(err, AGON_EINPUT, "doc.words: %d links", words.n_links);
    free(p->links);
    p->links = calloc((size_t)words.n_links + 1, sizeof(*p->links));
    if (!p->links)
        return agon_fail(err, AGON_ENOMEM, "parser: out of memory");
    for (int i = 0; i < words.n_links; i++) {
        p->links[i].url = take_text(w);
        p->links[i].context = take_text(w);
    }
    words.links = p->links;
    *(struct agon_words *)ret = words;
    return agon_wire_end(w, "doc.words", err);
}

int agon_parser_words(struct agon_parser *p, const struct agon_document *d, bool page,
                      struct agon_words *ret, struct agon_err *err)
{
    request_begin(p, d);
    agon_wire_add_int(&p->request, page);
    return parser_call(p, "doc.words", d, decode_words, ret, err);
}

/* ---- tables */

/* A cell that says it is a number looks like one. */
static bool cell_is_sound(const struct agon_cell_value *v)
{
    if (v->kind != AGON_CELL_INTEGER && v->kind != AGON_CELL_REAL)
        return true;
    bool ok = v->text.size > 0 && v->text.size < NUMBER_BYTES_MAX;
    for (size_t i = 0; ok && i < v->text.size; i++)
        ok = strchr("0123456789+-.einfa", v->text.data[i]) && v->text.data[i];
    return ok;
}

static int decode_cells(struct agon_table *t, struct agon_wire *w, int n_rows, struct agon_err *err)
{
    for (int row = 0; row < n_rows && !w->bad; row++) {
        struct agon_cell_value *cells;
        int r = agon_table_add_row(&cells, t, err);
        if (r)
            return r; /* no more rows than there may be were announced */
        for (int i = 0; i < t->n_columns; i++) {
            int64_t kind = agon_wire_int(w);
            if (kind == AGON_CELL_MISSING)
                continue;
            if (kind < 0 || kind > AGON_CELL_STRING)
                return agon_fail(err, AGON_EINPUT, "doc.table: a cell of kind %lld",
                                 (long long)kind);
            cells[i] = (struct agon_cell_value){(enum agon_cell_kind)kind, take_str(w)};
            if (!w->bad && !cell_is_sound(&cells[i]))
                return agon_fail(err, AGON_EINPUT, "doc.table: a number that is none");
        }
    }
    return 0;
}

static int decode_table(struct agon_parser *p, struct agon_wire *w, void *ret, struct agon_err *err)
{
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    (void)p;
    if (agon_wire_int(w) != 0) {
        const char *why = take_text(w);
        int bad = agon_wire_end(w, "doc.table", err);
        if (bad)
            return bad;
        if (!*why)
            return agon_fail(err, AGON_EINPUT, "doc.table: no table, and no word why");
        (void)agon_fail(err, AGON_EINPUT, "%s", why);
        return AGON_TABLE_NONE;
    }
    int r = agon_table_new(&t, err);
    if (r)
        return r;
    /* The texts of the table lie in a copy that is its own. */
    struct agon_str rest = {w->at, w->bad ? 0 : (size_t)(w->end - w->at)};
    const char *copy = agon_arena_strdup(t->arena, rest);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "parser: out of memory");
    *w = agon_wire_of((struct agon_str){copy, rest.size});
    int64_t n_columns = agon_wire_int(w), n_rows = agon_wire_int(w);
    t->n_rows_left_out = (int)agon_wire_int(w);
    if (w->bad || n_columns < 1 || n_columns > AGON_TABLE_COLUMNS_MAX || n_rows < 0 ||
        n_rows > AGON_TABLE_ROWS_MAX || t->n_rows_left_out < 0)
        return agon_fail(err, AGON_EINPUT, "doc.table: sizes that no table has");
    t->headers = agon_arena_alloc(t->arena, (size_t)n_columns * sizeof(*t->headers));
    if (!t->headers)
        return agon_fail(err, AGON_ENOMEM, "parser: out of memory");
    for (t->n_columns = 0; t->n_columns < (int)n_columns; t->n_columns++)
        t->headers[t->n_columns] = take_str(w);
    if ((r = decode_cells(t, w, (int)n_rows, err)) || (r = agon_wire_end(w, "doc.table", err)))
        return r;
    *(struct agon_table **)ret = AGON_STEAL(t);
    return 0;
}

int agon_parser_table(struct agon_parser *p, const struct agon_document *d,
                      const struct agon_table_options *o, struct agon_table **ret,
                      struct agon_err *err)
{
    request_begin(p, d);
    add_option(&p->request, o->format);
    add_option(&p->request, o->pointer);
    agon_wire_add_int(&p->request, o->number);
    add_option(&p->request, o->delimiter);
    add_option(&p->request, o->comment);
    return parser_call(p, "doc.table", d, decode_table, ret, err);
}

/* ---- robots.txt */

/* Paths are bytes: they are compared, and shown nowhere. */
static int decode_robots(struct agon_parser *p, struct agon_wire *w, void *ret,
                         struct agon_err *err)
{
    (void)p;
    struct agon_robots *rules AGON_AUTO(agon_robots_freep) = NULL;
    int r = agon_robots_new(&rules, err);
    if (r)
        return r;
    agon_robots_set_delay(rules, agon_wire_int(w));
    int n = agon_wire_count(w);
    for (int i = 0; i < n && !w->bad && !r; i++) {
        bool allow = agon_wire_int(w) != 0;
        struct agon_str path = agon_wire_str(w);
        w->bad = w->bad || path.size == 0 || memchr(path.data, '\0', path.size);
        if (!w->bad)
            r = agon_robots_add(rules, allow, path, err);
    }
    if (!r)
        r = agon_wire_end(w, "doc.robots", err);
    if (!r)
        *(struct agon_robots **)ret = AGON_STEAL(rules);
    return r;
}

int agon_parser_robots(struct agon_parser *p, const char *address, struct agon_str text,
                       const char *agent, struct agon_robots **ret, struct agon_err *err)
{
    struct agon_document d = {address, AGON_DOC_TEXT, text};
    request_begin(p, &d);
    add_text(&p->request, agent);
    return parser_call(p, "doc.robots", &d, decode_robots, ret, err);
}
