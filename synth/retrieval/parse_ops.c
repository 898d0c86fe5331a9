/* The ops of a parser cell: see parse_ops.h. */
#include "synth/retrieval/parse_ops.h"

#include "envs/wire.h"
#include "synth/retrieval/document.h"
#include "synth/retrieval/robots.h"

#include <iconv.h>
#include <libxml/parser.h>

enum { TEXT_MAX = 4 << 20, BODY_MAX = 64 << 20 };

/* Texts in a message end with their NUL, so that they can be used where they lie. */
static const char *take_text(struct agon_wire *w)
{
    struct agon_str s = agon_wire_str(w);
    w->bad = w->bad || s.size == 0 || s.data[s.size - 1] != '\0';
    return w->bad ? "" : s.data;
}

static const char *take_option(struct agon_wire *w)
{
    bool has = agon_wire_int(w) != 0;
    const char *text = take_text(w);
    return has ? text : NULL;
}

static void add_text(struct agon_buf *reply, const char *text)
{
    agon_wire_add_str(reply, (struct agon_str){text, strlen(text) + 1});
}

static struct agon_document take_document(struct agon_wire *w)
{
    struct agon_document d = {.address = take_text(w)};
    int64_t kind = agon_wire_int(w);
    d.kind = kind >= 0 && kind <= AGON_DOC_BINARY ? (enum agon_document_kind)kind : AGON_DOC_BINARY;
    d.body = agon_wire_str(w);
    return d;
}

static int op_render(void *state, struct agon_str request, struct agon_buf *reply,
                     struct agon_err *err)
{
    (void)state;
    struct agon_wire w = agon_wire_of(request);
    struct agon_document d = take_document(&w);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(BODY_MAX);
    int r = agon_wire_end(&w, "doc.render", err);
    if (r || (r = agon_document_render(&d, &text, err)))
        return r;
    agon_wire_add_str(reply, agon_buf_str(&text));
    return 0;
}

static void add_links(struct agon_buf *reply, const struct agon_html *html)
{
    agon_wire_add_int(reply, html->n_links);
    for (int i = 0; i < html->n_links; i++) {
        add_text(reply, html->links[i].url);
        add_text(reply, html->links[i].context ? html->links[i].context : "");
    }
}

static int op_words(void *state, struct agon_str request, struct agon_buf *reply,
                    struct agon_err *err)
{
    (void)state;
    struct agon_wire w = agon_wire_of(request);
    struct agon_document d = take_document(&w);
    bool page = agon_wire_int(&w) != 0;
    struct agon_html html AGON_AUTO(agon_html_deinit) = {0};
    struct agon_buf title AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_MAX);
    struct agon_buf summary AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    int r = agon_wire_end(&w, "doc.words", err);
    if (r || (page && (r = agon_html_parse(&html, d.body, d.address, err))) ||
        (r = agon_document_words(&d, page ? &html : NULL, &title, &text, &summary, err)))
        return r;
    add_text(reply, agon_buf_text(&title));
    agon_wire_add_str(reply, agon_buf_str(&text));
    add_text(reply, agon_buf_text(&summary));
    add_links(reply, &html);
    return 0;
}

static void add_table(struct agon_buf *reply, const struct agon_table *t)
{
    agon_wire_add_int(reply, t->n_columns);
    agon_wire_add_int(reply, t->n_rows);
    agon_wire_add_int(reply, t->n_rows_left_out);
    for (int i = 0; i < t->n_columns; i++)
        agon_wire_add_str(reply, t->headers[i]);
    for (int row = 0; row < t->n_rows; row++)
        for (int i = 0; i < t->n_columns; i++) {
            const struct agon_cell_value *v = agon_table_cell(t, row, i);
            agon_wire_add_int(reply, v->kind);
            if (v->kind != AGON_CELL_MISSING)
                agon_wire_add_str(reply, v->text);
        }
}

static int op_table(void *state, struct agon_str request, struct agon_buf *reply,
                    struct agon_err *err)
{
    (void)state;
    struct agon_wire w = agon_wire_of(request);
    struct agon_document d = take_document(&w);
    struct agon_table_options o = {.format = take_option(&w), .pointer = take_option(&w)};
    o.number = (int)agon_wire_int(&w);
    o.delimiter = take_option(&w);
    o.comment = take_option(&w);
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_err why = {0};
    int r = agon_wire_end(&w, "doc.table", err);
    if (r)
        return r;
    r = agon_document_table(&d, &o, &t, &why);
    if (r < 0)
        return agon_fail(err, r, "%s", why.text);
    agon_wire_add_int(reply, r);
    if (r > 0)
        add_text(reply, why.text);
    else
        add_table(reply, t);
    return 0;
}

static int op_robots(void *state, struct agon_str request, struct agon_buf *reply,
                     struct agon_err *err)
{
    (void)state;
    struct agon_robots *rules AGON_AUTO(agon_robots_freep) = NULL;
    struct agon_wire w = agon_wire_of(request);
    struct agon_document d = take_document(&w);
    const char *agent = take_text(&w);
    int r = agon_wire_end(&w, "doc.robots", err);
    if (r || (r = agon_robots_parse(&rules, d.body, agent, err)))
        return r;
    int n = agon_robots_n_rules(rules);
    agon_wire_add_int(reply, agon_robots_delay_ms(rules));
    agon_wire_add_int(reply, n);
    for (int i = 0; i < n; i++) {
        bool allow;
        const char *path = agon_robots_rule(rules, i, &allow);
        agon_wire_add_int(reply, allow);
        agon_wire_add_text(reply, path);
    }
    return 0;
}

const struct agon_worker_op agon_parse_ops[] = {{"doc.render", op_render},
                                                {"doc.words", op_words},
                                                {"doc.table", op_table},
                                                {"doc.robots", op_robots},
                                                {0}};

/* The encodings of the web (WHATWG's list) that libxml2 does not convert itself. A converter that
 * is open here is found again by later parses without a file. */
void agon_parse_prepare(void)
{
    static const char *const encodings[] = {
        "WINDOWS-1250", "WINDOWS-1251", "WINDOWS-1252", "WINDOWS-1253", "WINDOWS-1254",
        "WINDOWS-1255", "WINDOWS-1256", "WINDOWS-1257", "WINDOWS-1258", "WINDOWS-874",
        "ISO-8859-2",   "ISO-8859-3",   "ISO-8859-4",   "ISO-8859-5",   "ISO-8859-6",
        "ISO-8859-7",   "ISO-8859-8",   "ISO-8859-10",  "ISO-8859-13",  "ISO-8859-14",
        "ISO-8859-15",  "ISO-8859-16",  "KOI8-R",       "KOI8-U",       "IBM866",
        "MACINTOSH",    "GBK",          "GB2312",       "GB18030",      "BIG5",
        "BIG5-HKSCS",   "EUC-JP",       "ISO-2022-JP",  "SHIFT_JIS",    "EUC-KR",
        "UHC",          "TIS-620",      "UTF-16LE",     "UTF-16BE",     "US-ASCII"};
    xmlInitParser();
    for (size_t i = 0; i < sizeof(encodings) / sizeof(*encodings); i++) {
        (void)iconv_open("UTF-8", encodings[i]); /* stays open; one that is not there is not used */
        (void)iconv_open(encodings[i], "UTF-8"); /* libxml2 opens both ways */
    }
}
