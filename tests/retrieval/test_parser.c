/* Documents taken apart in real boxes: the same bytes as without, and nothing of a document that
 * breaks its parser reaches the driver. */
#include "synth/retrieval/parser.h"

#include "base/file.h"
#include "sandbox/cell.h"
#include "synth/retrieval/robots.h"
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct agon_err err;

static struct agon_parser *parser(void)
{
    static struct agon_sandbox *sb;
    static struct agon_parser *p;
    if (!p && (!EXPECT(agon_sandbox_open(&sb, NULL, &err) == 0) ||
               !EXPECT(agon_parser_new(&p, sb, &err) == 0)))
        printf("# %s\n", err.text); /* never a skip */
    return p;
}

static const struct {
    const char *address, *body;
} pages[] = {
    {"http://h/a.html",
     "<title>T &amp; t</title><p>One<p>two <a href='b.csv'>data</a><table><tr><th>a"
     "<th>b<tr><td>1<td>2</table>"},
    {"http://h/latin.html",
     "<meta charset='windows-1252'><title>\x93quoted\x94 \x80</title>caf\xe9 \x99"},
    {"http://h/sjis.html", "<meta http-equiv='Content-Type' content='text/html; charset=Shift_JIS'>"
                           "<title>\x93\xfa\x96\x7b</title>\x90\x85\x8e\xd4"},
    {"http://h/koi.html", "<meta charset='koi8-r'><title>\xf2\xd5\xd3</title>\xd0\xd2\xc9"},
    {"http://h/gbk.html", "<meta charset='gbk'><title>\xd6\xd0\xce\xc4</title>\xb2\xe2\xca\xd4"},
    {"http://h/latin9.html", "<meta charset='iso-8859-15'>\xa4 \xbd"},
    {"http://h/big5.html", "<meta charset='big5'>\xa4\xa4\xa4\xe5"},
    {"http://h/euc.html", "<meta charset='euc-kr'>\xc7\xd1\xb1\xdb"},
    {"http://h/none.html", "<meta charset='no-such-charset'>\xc7\xd1 plain"},
    {"http://h/x.csv", "name,n\nA,1\nB,2\n"},
    {"http://h/x.csv", "# a comment\n# x y\n1,2\n3,4\n"},
    {"http://h/x.tsv", "a\tb\n1\t\xff\n"},
    {"http://h/x.json",
     "{\"rows\": [{\"a\": 1, \"b\": 1.5}, {\"a\": 2, \"c\": \"x\"}], \"n\": {\"l\": [[1,2]]}}"},
    {"http://h/x.json", "{\"broken\": "},
    {"http://h/x.txt", "plain \xe2\x82\xac text\x01\x02"},
    {"http://h/x.bin", "\x89PNG"},
    {"http://h/empty.html", "<!doctype html>"},
};

static struct agon_document page(size_t i)
{
    struct agon_document d = {.address = pages[i].address, .body = agon_str(pages[i].body)};
    d.kind = agon_document_sniff(d.address, "", d.body);
    return d;
}

static void expect_same_table(const struct agon_document *d)
{
    struct agon_table *here AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table *boxed AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table_options o = {0};
    struct agon_err why = {0}, boxed_why = {0};
    int r = agon_document_table(d, &o, &here, &why);
    REQUIRE(agon_parser_table(parser(), d, &o, &boxed, &boxed_why) == r);
    EXPECT_TEXT(boxed_why.text, why.text);
    if (r)
        return;
    REQUIRE(here->n_columns == boxed->n_columns && here->n_rows == boxed->n_rows &&
            here->n_rows_left_out == boxed->n_rows_left_out);
    for (int i = 0; i < here->n_columns; i++)
        EXPECT(agon_str_equal(here->headers[i], boxed->headers[i]));
    for (int i = 0; i < here->n_rows * here->n_columns; i++)
        EXPECT(here->cells[i].kind == boxed->cells[i].kind &&
               agon_str_equal(here->cells[i].text, boxed->cells[i].text));
}

static void expect_same_words(const struct agon_document *d)
{
    struct agon_html html = {0};
    struct agon_words words;
    bool is_page = d->kind == AGON_DOC_HTML;
    struct agon_buf title AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_buf summary AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    REQUIRE(!is_page || agon_html_parse(&html, d->body, d->address, &err) == 0);
    REQUIRE(agon_document_words(d, is_page ? &html : NULL, &title, &text, &summary, &err) == 0);
    if (EXPECT(agon_parser_words(parser(), d, is_page, &words, &err) == 0)) {
        EXPECT_TEXT(words.title, agon_buf_text(&title));
        EXPECT_TEXT(words.summary, agon_buf_text(&summary));
        EXPECT(agon_str_equal(words.text, agon_buf_str(&text)));
        EXPECT(words.n_links == html.n_links);
        for (int i = 0; i < words.n_links && i < html.n_links; i++) {
            EXPECT_TEXT(words.links[i].url, html.links[i].url);
            EXPECT_TEXT(words.links[i].context, html.links[i].context);
        }
    }
    agon_html_deinit(&html);
}

TEST(a_box_gives_the_bytes_that_the_functions_give)
{
    REQUIRE(parser());
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        struct agon_document d = page(i);
        struct agon_buf here AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        struct agon_buf boxed AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        int failures = test_failures;
        EXPECT(agon_document_render(&d, &here, &err) == 0);
        EXPECT(agon_parser_render(parser(), &d, &boxed, &err) == 0);
        EXPECT_TEXT(agon_buf_text(&boxed), agon_buf_text(&here));
        expect_same_words(&d);
        expect_same_table(&d);
        if (test_failures > failures)
            printf("# %s: %.60s\n", d.address, d.body.data);
    }
}

TEST(rules_of_a_robots_txt_come_out_of_a_box_as_they_are)
{
    static const char text[] = "User-agent: *\nDisallow: /\n\nUser-agent: AGON\nUser-agent: b\n"
                               "Crawl-delay: 1.5\nDisallow: /a # why\nAllow: /a/\xe9*$\nDisallow:\n"
                               "Disallow: /\xff\x01 x\n";
    struct agon_robots *here AGON_AUTO(agon_robots_freep) = NULL;
    struct agon_robots *boxed AGON_AUTO(agon_robots_freep) = NULL;
    REQUIRE(parser() && agon_robots_parse(&here, agon_str(text), "agon", &err) == 0);
    REQUIRE(agon_parser_robots(parser(), "http://h/robots.txt", agon_str(text), "agon", &boxed,
                               &err) == 0);
    REQUIRE(agon_robots_n_rules(here) == 3 && agon_robots_n_rules(boxed) == 3);
    for (int i = 0; i < 3; i++) {
        bool a, b;
        EXPECT_TEXT(agon_robots_rule(boxed, i, &a), agon_robots_rule(here, i, &b));
        EXPECT(a == b);
    }
    EXPECT(agon_robots_delay_ms(boxed) == 1500 && agon_robots_delay_ms(here) == 1500);
    EXPECT(!agon_robots_allow(boxed, "/ab") && agon_robots_allow(boxed, "/a/\xe9t\xe9"));
}

/* 400 rows of a wide table: more than a piece of the channel. */
TEST(large_tables_come_whole)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    agon_buf_adds(&text, "a,b,c\n");
    for (int i = 0; i < 25000; i++)
        agon_buf_addf(&text, "row %d,%d,\"quoted, %d\"\n", i, i * 7, i);
    struct agon_document d = {"http://h/x.csv", AGON_DOC_CSV, agon_buf_str(&text)};
    REQUIRE(parser());
    expect_same_table(&d);
}
