/*
 * What the web sends, as the author meets it: the first byte picks the kind, the second the
 * delimiter, the rest is the body. It is shown, indexed and imported. Whatever it holds, what is
 * shown is UTF-8, a refused import leaves nothing, and one that is taken has all its rows, all its
 * text being UTF-8 without NUL. (Bad bytes are never the driver's own failure.)
 */
#include "base/store.h"
#include "base/text.h"
#include "synth/retrieval/document.h"
#include "synth/retrieval/import.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sqlite3 *world(void)
{
    static struct sqlite3 *db; /* kept to the end */
    if (!db)
        assert(agon_store_open(&db, ":memory:", AGON_STORE_CREATE, NULL) == 0);
    return db;
}

static int64_t ask(const char *sql)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    assert(agon_query_new(&q, world(), sql, NULL) == 0 && agon_query_next(q, NULL) == AGON_ROW);
    return agon_query_get_int(q, 0);
}

static void check_text(void)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int n = (int)ask("SELECT count(*) FROM pragma_table_info('it')"), r;
    assert(agon_query_new(&q, world(), "SELECT * FROM it", NULL) == 0);
    while ((r = agon_query_next(q, NULL)) == AGON_ROW)
        for (int i = 0; i < n; i++) {
            struct agon_str text = agon_query_get_str(q, i);
            assert(agon_utf8_valid(text) && !(text.size && memchr(text.data, '\0', text.size)));
        }
    assert(r == 0);
}

static void import(const struct agon_table *t)
{
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_err err;
    int r = agon_import(world(), t, "it", NULL, &result, &err);
    assert(r >= 0);
    if (r == 0) {
        assert(ask("SELECT count(*) FROM it") == t->n_rows);
        check_text();
        assert(agon_store_exec(world(), "DROP TABLE it", &err) == 0);
    }
    assert(ask("SELECT count(*) FROM sqlite_schema") == 0);
}

static void show(const struct agon_document *d)
{
    struct agon_buf texts[4] = {AGON_BUF(8 << 20), AGON_BUF(1 << 20), AGON_BUF(1 << 20),
                                AGON_BUF(1 << 20)};
    struct agon_html html = {0};
    struct agon_err err;
    int r = agon_document_render(d, &texts[0], &err);
    assert(r == 0);
    if (d->kind == AGON_DOC_HTML)
        assert(agon_html_parse(&html, d->body, d->address, &err) == 0);
    r = agon_document_words(d, html.title ? &html : NULL, &texts[1], &texts[2], &texts[3], &err);
    assert(r == 0);
    for (int i = 0; i < 4; i++) {
        assert(agon_utf8_valid(agon_buf_str(&texts[i])));
        agon_buf_deinit(&texts[i]);
    }
    agon_html_deinit(&html);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const delimiters[] = {NULL, ";", "space", "tab", "|"};
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_err err;
    if (size < 2)
        return 0;
    struct agon_document d = {.address = "https://example.org/a/b",
                              .kind = (enum agon_document_kind)(data[0] % (AGON_DOC_BINARY + 1)),
                              .body = {(const char *)data + 2, size - 2}};
    struct agon_table_options o = {.delimiter = delimiters[data[1] % 5]};
    (void)agon_document_sniff("https://example.org/a", "", d.body);
    show(&d);
    int r = agon_document_table(&d, &o, &t, &err);
    assert(r >= 0);
    if (r == 0)
        import(t);
    return 0;
}
