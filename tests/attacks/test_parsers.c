/* Documents that take over or break their parser (rows E and N of the threat model, and our own).
 */
#include "base/file.h"
#include "sandbox/cell.h"
#include "synth/retrieval/parser.h"
#include "tests/attacks/battery.h"

#include <sys/stat.h>

static struct agon_err err;

/* A parser whose program is `program`, beside the real agon-cell. */
static struct agon_parser *parser_of(const char *program, struct agon_sandbox **sb)
{
    struct agon_parser *p = NULL;
    char path[400];
    snprintf(path, sizeof(path), "%s/agon-cell", test_folder());
    struct agon_sandbox_options o = {.cell_program = path};
    const char *const from[] = {getenv("AGON_CELL"), program};
    const char *const to[] = {"agon-cell", "agon-parse"};
    for (int i = 0; i < 2; i++) {
        struct agon_buf bytes AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
        if (!EXPECT(agon_file_read(&bytes, from[i], 1 << 26, &err) == 0 &&
                    agon_file_write(test_path(to[i]), agon_buf_str(&bytes), false, &err) == 0))
            return NULL;
    }
    if (!EXPECT(agon_sandbox_open(sb, &o, &err) == 0 && agon_parser_new(&p, *sb, &err) == 0))
        printf("# %s\n", err.text);
    return p;
}

#ifndef LONG
ATTACK(X_a_parser_that_was_taken_over_only_loses_its_document)
{
    static const char *const what[] = {"crash",    "quit", "fail", "noise", "huge",
                                       "negative", "wide", "kind", "number"};
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_parser *p AGON_AUTO(agon_parser_freep) =
        parser_of(getenv("AGON_HOSTILE_PARSE"), &sb);
    REQUIRE(p);
    for (size_t i = 0; i < sizeof(what) / sizeof(*what); i++) {
        char address[64], said[128];
        snprintf(address, sizeof(address), "http://h/%s", what[i]);
        snprintf(said, sizeof(said), "%s can't be read: its parser was lost 2 times", address);
        struct agon_document d = {address, AGON_DOC_HTML, agon_str("<p>x")};
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        struct agon_words words;
        struct agon_table *table = NULL;
        struct agon_robots *rules = NULL;
        bool about_tables = i >= 6; /* the others read it as no text at all */
        int failures = test_failures;
        if (!about_tables) {
            EXPECT(agon_parser_render(p, &d, &text, &err) == AGON_PARSER_LOST);
            EXPECT_TEXT(err.text, said);
            EXPECT(agon_parser_words(p, &d, true, &words, &err) == AGON_PARSER_LOST);
            EXPECT(agon_parser_robots(p, address, d.body, "agon", &rules, &err) ==
                   AGON_PARSER_LOST);
            EXPECT_TEXT(err.text, said);
        }
        EXPECT(agon_parser_table(p, &d, &(struct agon_table_options){0}, &table, &err) ==
               AGON_PARSER_LOST);
        EXPECT_TEXT(err.text, said);
        EXPECT(text.size == 0 && !table && !rules);
        if (test_failures > failures)
            printf("# %s\n", what[i]);
    }
}

/* Bytes that have cost parsers dearly, through the real one: an answer or a lost document, in time.
 */
ATTACK(X_documents_that_are_bombs)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    char real[400];
    snprintf(real, sizeof(real), "%.*s/agon-parse",
             (int)(strrchr(getenv("AGON_CELL"), '/') - getenv("AGON_CELL")), getenv("AGON_CELL"));
    struct agon_parser *p AGON_AUTO(agon_parser_freep) = parser_of(real, &sb);
    b->rss_mib_max = 1100; /* a parser may have 1 GiB */
    b->seconds_max = 120;
    REQUIRE(p);
    static const struct {
        enum agon_document_kind kind;
        const char *piece;
        int n;
    } bombs[] = {
        {AGON_DOC_HTML, "<b><span>", 200000},
        {AGON_DOC_HTML, "<a href=x>", 100000},
        {AGON_DOC_HTML, "<table><tr><td>", 30000},
        {AGON_DOC_HTML, "&#x26;amp;", 200000},
        {AGON_DOC_HTML, "<td colspan=2147483647>", 50000},
        {AGON_DOC_HTML, "<!--", 300000},
        {AGON_DOC_HTML, "<![CDATA[", 200000},
        {AGON_DOC_HTML, "<!ENTITY a \"&a;&a;\">&a;", 50000},
        {AGON_DOC_JSON, "[", 1000000},
        {AGON_DOC_JSON, "{\"a\":", 300000},
        {AGON_DOC_CSV, "\"\"", 1000000},
        {AGON_DOC_CSV, ",", 2000000},
        {AGON_DOC_CSV, "\n", 2000000},
        {AGON_DOC_CSV, "#\n", 1000000},
    };
    for (size_t i = 0; i < sizeof(bombs) / sizeof(*bombs); i++) {
        struct agon_buf body AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        struct agon_words words;
        struct agon_table *table AGON_AUTO(agon_table_freep) = NULL;
        for (int n = 0; n < bombs[i].n; n++)
            agon_buf_adds(&body, bombs[i].piece);
        struct agon_document d = {"http://h/bomb", bombs[i].kind, agon_buf_str(&body)};
        EXPECT(agon_parser_render(p, &d, &text, &err) >= 0 && text.size < 300000);
        EXPECT(agon_parser_words(p, &d, d.kind == AGON_DOC_HTML, &words, &err) >= 0);
        EXPECT(agon_parser_table(p, &d, &(struct agon_table_options){0}, &table, &err) >= 0);
    }
}
#else
/* A program of its own, since each try may use 20 s of the processor. */
ATTACK(X_a_parser_that_hangs)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_parser *p AGON_AUTO(agon_parser_freep) =
        parser_of(getenv("AGON_HOSTILE_PARSE"), &sb);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_document d = {"http://h/hang", AGON_DOC_HTML, agon_str("<p>x")};
    b->seconds_max = 100;
    REQUIRE(p);
    EXPECT(agon_parser_render(p, &d, &text, &err) == AGON_PARSER_LOST);
    EXPECT_TEXT(err.text, "http://h/hang can't be read: its parser was lost 2 times");
}
#endif
