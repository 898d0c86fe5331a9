/* Tables from text whose fields are divided by commas, tabs or white space: see table.h. */
#include "synth/retrieval/table.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

/* A cursor over the text that yields one record of fields at a time */

struct csv {
    const char *at, *end;
    struct agon_csv_options options;
    struct agon_arena *arena;
    struct agon_str fields[AGON_TABLE_COLUMNS_MAX];
    int n_fields, n_fields_left_out;
    struct agon_str last_comment; /* the text after the marker of the comment read last */
};

static bool csv_is_newline(char c)
{
    return c == '\n' || c == '\r';
}

static void csv_end_line(struct csv *c)
{
    if (c->at < c->end && *c->at == '\r')
        c->at++;
    if (c->at < c->end && *c->at == '\n')
        c->at++;
}

static bool csv_at_delimiter(const struct csv *c)
{
    if (c->options.delimiter == ' ')
        return *c->at == ' ' || *c->at == '\t';
    return *c->at == c->options.delimiter;
}

static struct agon_str csv_trim(struct agon_str s)
{
    while (s.size && (s.data[0] == ' ' || s.data[0] == '\t'))
        s.data++, s.size--;
    while (s.size && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* RFC 4180 section 2.5-2.7: "" inside a quoted field is one quote. */
static int csv_quoted(struct csv *c, struct agon_str *ret, struct agon_err *err)
{
    const char *start = ++c->at, *p = start;
    size_t size = 0;
    for (; p < c->end; p++, size++) { /* measure */
        if (*p == '"' && p + 1 < c->end && p[1] == '"')
            p++;
        else if (*p == '"')
            break;
    }
    char *out = agon_arena_alloc(c->arena, size + 1);
    if (!out)
        return agon_fail(err, AGON_ENOMEM, "csv: out of memory");
    size_t n = 0;
    for (p = start; p < c->end; p++) {
        if (*p == '"' && p + 1 < c->end && p[1] == '"')
            p++;
        else if (*p == '"')
            break;
        out[n++] = *p;
    }
    c->at = p < c->end ? p + 1 : p;
    *ret = (struct agon_str){out, n};
    return 0;
}

static int csv_field(struct csv *c, struct agon_err *err)
{
    struct agon_str field = {c->at, 0};
    bool quoted = c->at < c->end && *c->at == '"' && c->options.delimiter != ' ';
    if (quoted) {
        int r = csv_quoted(c, &field, err);
        if (r)
            return r;
    }
    const char *rest = c->at; /* what follows a closing quote before the delimiter is dropped */
    while (c->at < c->end && !csv_is_newline(*c->at) && !csv_at_delimiter(c))
        c->at++;
    if (!quoted)
        field = csv_trim((struct agon_str){rest, (size_t)(c->at - rest)});
    if (c->n_fields < AGON_TABLE_COLUMNS_MAX)
        c->fields[c->n_fields++] = field;
    else
        c->n_fields_left_out++;
    return 0;
}

static void csv_skip_blanks(struct csv *c)
{
    while (c->options.delimiter == ' ' && c->at < c->end && csv_at_delimiter(c))
        c->at++;
}

static bool csv_skip_comment(struct csv *c)
{
    size_t n = c->options.comment ? strlen(c->options.comment) : 0;
    if (!n || (size_t)(c->end - c->at) < n || memcmp(c->at, c->options.comment, n) != 0)
        return false;
    const char *start = c->at + n;
    while (c->at < c->end && !csv_is_newline(*c->at))
        c->at++;
    c->last_comment = (struct agon_str){start, start < c->at ? (size_t)(c->at - start) : 0};
    csv_end_line(c);
    return true;
}

/* A trailing comment ends a record whose fields are divided by white space. */
static bool csv_at_tail_comment(const struct csv *c)
{
    size_t n = c->options.comment ? strlen(c->options.comment) : 0;
    return n && c->options.delimiter == ' ' && (size_t)(c->end - c->at) >= n &&
           memcmp(c->at, c->options.comment, n) == 0;
}

/* 1 with a record in c->fields, 0 at the end. */
static int csv_next(struct csv *c, struct agon_err *err)
{
    for (;;) {
        csv_skip_blanks(c);
        if (c->at == c->end)
            return 0;
        if (csv_skip_comment(c))
            continue;
        if (!csv_is_newline(*c->at))
            break;
        csv_end_line(c);
    }
    c->n_fields = c->n_fields_left_out = 0;
    for (;;) {
        int r = csv_field(c, err);
        if (r)
            return r;
        if (c->at == c->end || csv_is_newline(*c->at))
            break;
        c->at++;
        csv_skip_blanks(c);
        if (c->options.delimiter == ' ' && (c->at == c->end || csv_is_newline(*c->at)))
            break;
        if (csv_at_tail_comment(c)) {
            while (c->at < c->end && !csv_is_newline(*c->at))
                c->at++;
            break;
        }
    }
    csv_end_line(c);
    return 1;
}

static bool field_is_number(struct agon_str s)
{
    char text[64];
    if (s.size == 0 || s.size >= sizeof(text))
        return false;
    memcpy(text, s.data, s.size);
    text[s.size] = '\0';
    char *end;
    (void)strtod(text, &end);
    return *end == '\0';
}

static int table_set_headers(struct agon_table *t, const struct agon_str *fields, int n,
                             struct agon_err *err)
{
    t->n_columns = n;
    t->headers = agon_arena_alloc(t->arena, (size_t)n * sizeof(*t->headers));
    if (!t->headers)
        return agon_fail(err, AGON_ENOMEM, "table: out of memory");
    for (int i = 0; i < n; i++)
        t->headers[i] = fields[i];
    return 0;
}

int agon_table_number_headers(struct agon_table *t, int n, struct agon_err *err)
{
    struct agon_str names[AGON_TABLE_COLUMNS_MAX];
    for (int i = 0; i < n; i++) {
        char name[16];
        int size = snprintf(name, sizeof(name), "c%d", i + 1);
        const char *copy = agon_arena_strdup(t->arena, (struct agon_str){name, (size_t)size});
        if (!copy)
            return agon_fail(err, AGON_ENOMEM, "table: out of memory");
        names[i] = agon_str(copy);
    }
    return table_set_headers(t, names, n, err);
}

static bool is_missing(struct agon_str s)
{
    static const char *const words[] = {"", "NA", "N/A", "NULL", "null", "NaN", "nan", "\\N"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (agon_str_is(s, words[i]))
            return true;
    return false;
}

static int csv_add_row(struct agon_table *t, const struct csv *c, struct agon_err *err)
{
    struct agon_cell_value *row;
    int r = agon_table_add_row(&row, t, err);
    if (r)
        return r < 0 ? r : 0;
    for (int i = 0; i < t->n_columns && i < c->n_fields; i++)
        if (!is_missing(c->fields[i]))
            row[i] = (struct agon_cell_value){AGON_CELL_TEXT, c->fields[i]};
    return 0;
}

/* Decide what names the columns, given the first record; *ret_is_data says whether that record is a
 * row. */
static int csv_headers(struct agon_table *t, struct csv *c, bool *ret_is_data, struct agon_err *err)
{
    int n = c->n_fields;
    if (c->last_comment.size) {
        struct csv line = {.at = c->last_comment.data,
                           .end = c->last_comment.data + c->last_comment.size,
                           .options = {.delimiter = c->options.delimiter},
                           .arena = t->arena};
        int r = csv_next(&line, err);
        if (r < 0)
            return r;
        /* Last columns may be left out of a row; prose divided by spaces names nothing. */
        bool names = c->options.delimiter == ' ' ? line.n_fields == n : line.n_fields >= n;
        if (r > 0 && names && line.n_fields > 1) {
            *ret_is_data = true;
            return table_set_headers(t, line.fields, line.n_fields, err);
        }
    }
    for (int i = 0; i < n; i++)
        *ret_is_data = *ret_is_data || field_is_number(c->fields[i]);
    return *ret_is_data ? agon_table_number_headers(t, n, err)
                        : table_set_headers(t, c->fields, n, err);
}

/* A copy that is UTF-8 without NUL: each byte that is none becomes U+FFFD, here at the door, so
 * that all cells can be stored and compared as they are. */
static int csv_copy(struct agon_arena *arena, struct agon_str text, struct agon_str *ret,
                    struct agon_err *err)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t n_bad = 0, n = 0;
    for (size_t at = 0; at < text.size;)
        n_bad += agon_utf8_next(text, &at) <= 0;
    char *copy = agon_arena_alloc(arena, text.size + 2 * n_bad + 1);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "csv: out of memory");
    for (size_t at = 0; at < text.size;) {
        size_t from = at;
        bool bad = agon_utf8_next(text, &at) <= 0;
        size_t size = bad ? sizeof(replacement) - 1 : at - from;
        memcpy(copy + n, bad ? replacement : text.data + from, size);
        n += size;
    }
    *ret = (struct agon_str){copy, n};
    return 0;
}

int agon_table_read_csv(struct agon_table **ret, struct agon_str text,
                        const struct agon_csv_options *o, struct agon_err *err)
{
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    int r = agon_table_new(&t, err);
    if (r)
        return r;
    if (text.size >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) /* a byte order mark */
        text.data += 3, text.size -= 3;
    if ((r = csv_copy(t->arena, text, &text, err))) /* cells borrow from it */
        return r;

    struct csv c = {
        .at = text.data, .end = text.data + text.size, .options = *o, .arena = t->arena};
    bool is_data = false;
    if ((r = csv_next(&c, err)) <= 0) {
        if (r < 0)
            return r;
        (void)agon_fail(err, AGON_EINPUT, "the document holds no rows");
        return AGON_TABLE_NONE;
    }
    if ((r = csv_headers(t, &c, &is_data, err)))
        return r;
    if (is_data && (r = csv_add_row(t, &c, err)))
        return r;
    while ((r = csv_next(&c, err)) > 0)
        if ((r = csv_add_row(t, &c, err)))
            break;
    if (r < 0)
        return r;
    *ret = AGON_STEAL(t);
    return 0;
}
