/*
 * A parser of documents that was taken over may say anything: the first byte picks the request,
 * the rest is the reply; this file stands in for sandbox/cell.c. Whatever it is, the document is
 * lost with a sentence, or its words and its table can be kept: all text is UTF-8, and an import
 * is never the driver's own failure.
 */
#include "base/log.h"
#include "base/store.h"
#include "base/text.h"
#include "sandbox/cell.h"
#include "synth/retrieval/import.h"
#include "synth/retrieval/parser.h"
#include "synth/retrieval/robots.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct agon_cell {
    int unused;
};
static struct agon_str next_reply;

int agon_cell_new_parser(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    (void)sb;
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "out of memory");
}

void agon_cell_free(struct agon_cell *c)
{
    free(c);
}

int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    (void)c, (void)op, (void)request, (void)ret_reason, (void)err;
    agon_buf_reset(reply);
    agon_buf_add_str(reply, next_reply);
    return 0;
}

static bool is_text(struct agon_str s)
{
    return agon_utf8_valid(s) && !(s.size && memchr(s.data, '\0', s.size));
}

static void import(const struct agon_table *t)
{
    static struct sqlite3 *world; /* kept to the end */
    struct agon_buf said AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_err err;
    if (!world)
        assert(agon_store_open(&world, ":memory:", AGON_STORE_CREATE, &err) == 0);
    int r = agon_import(world, t, "it", NULL, &said, &err);
    assert(r >= 0 && is_text(agon_buf_str(&said)));
    if (r)
        return;
    assert(agon_query_new(&q, world, "SELECT count(*) FROM it", &err) == 0);
    assert(agon_query_next(q, &err) == AGON_ROW && agon_query_get_int(q, 0) == t->n_rows);
    agon_query_free(AGON_STEAL(q));
    assert(agon_store_exec(world, "DROP TABLE it", &err) == 0);
}

static void ask(uint8_t what, struct agon_parser *p)
{
    struct agon_document d = {"http://example.org/a", AGON_DOC_HTML, agon_str("x")};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table_options o = {0};
    struct agon_words words;
    struct agon_err err = {0};
    int r = what % 3 == 0   ? agon_parser_render(p, &d, &text, &err)
            : what % 3 == 1 ? agon_parser_words(p, &d, true, &words, &err)
                            : agon_parser_table(p, &d, &o, &t, &err);
    assert(r >= 0 && (r == 0 || err.text[0]));
    if (r)
        return;
    if (what % 3 == 0)
        assert(is_text(agon_buf_str(&text)));
    if (what % 3 == 1) {
        assert(is_text(agon_str(words.title)) && is_text(agon_str(words.summary)));
        assert(is_text(words.text));
        for (int i = 0; i < words.n_links; i++)
            assert(is_text(agon_str(words.links[i].url)) &&
                   is_text(agon_str(words.links[i].context)));
    }
    if (what % 3 == 2)
        import(t);
}

/* Rules that it made up: asking ends, and the delay is within its limit. */
static void ask_robots(struct agon_parser *p)
{
    struct agon_robots *rules AGON_AUTO(agon_robots_freep) = NULL;
    struct agon_err err = {0};
    int r = agon_parser_robots(p, "http://h/robots.txt", agon_str(""), "agon", &rules, &err);
    assert(r >= 0 && (r == 0 || err.text[0]));
    if (r)
        return;
    int delay = agon_robots_delay_ms(rules);
    assert(delay >= -1 && delay <= 60000 && agon_robots_n_rules(rules) <= 2000);
    assert(agon_robots_allow(rules, "/robots.txt"));
    (void)agon_robots_allow(rules, "/a/b?c=d");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_parser *p AGON_AUTO(agon_parser_freep) = NULL;
    struct agon_err err;
    if (size == 0)
        return 0;
    agon_log_init(AGON_LOG_ERROR);
    next_reply = (struct agon_str){(const char *)data + 1, size - 1};
    assert(agon_parser_new(&p, NULL, &err) == 0);
    if (data[0] == 'r')
        ask_robots(p);
    else
        ask(data[0], p);
    return 0;
}
