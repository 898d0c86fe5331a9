/* Retrieval against a real web server on loopback (server.py) and real files. */
#include "synth/retrieval.h"

#include "base/file.h"
#include "base/json.h"
#include "base/store.h"
#include "sandbox/cell.h"
#include "synth/retrieval/document.h"
#include "synth/retrieval/import.h"
#include "synth/retrieval/robots.h"
#include "tests/test.h"

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- the server and a library over it */

struct site {
    pid_t pid;
    int to_server;
    int port;
};

static bool site_start(struct site *s)
{
    int in[2], out[2];
    char text[32] = "";
    char *argv[] = {(char[]){"python3"}, (char[]){AGON_TEST_SERVER}, NULL};
    posix_spawn_file_actions_t actions;
    if (pipe(in) || pipe(out))
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, in[1]);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    int bad = posix_spawnp(&s->pid, "python3", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    s->to_server = in[1];
    bool up = !bad && read(out[0], text, sizeof(text) - 1) > 0;
    close(out[0]);
    s->port = atoi(text);
    return up && s->port > 0;
}

static void site_stop(struct site *s)
{
    close(s->to_server);
    waitpid(s->pid, NULL, 0);
}

/* One for all cases; it ends with the program. */
static struct agon_sandbox *sandbox(void)
{
    static struct agon_sandbox *sb;
    struct agon_err err;
    if (!sb && !EXPECT(agon_sandbox_open(&sb, NULL, &err) == 0))
        printf("# %s\n", err.text); /* never a skip */
    return sb;
}

struct fixture {
    struct site site;
    char dir[64], url[64], host[64];
    const char *hosts[2], *sources[3];
    struct agon_library *lib;
    struct agon_retrieval *r;
    struct sqlite3 *world;
    struct agon_buf result;
    struct agon_err err;
};

static bool fixture_open(struct fixture *f, const char *source)
{
    *f = (struct fixture){.result = AGON_BUF(1 << 20)};
    strcpy(f->dir, "/tmp/agon-retrieval-XXXXXX");
    if (!site_start(&f->site) || !mkdtemp(f->dir))
        return false;
    snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%d/", f->site.port);
    snprintf(f->host, sizeof(f->host), "127.0.0.1:%d", f->site.port);
    f->hosts[0] = f->host;
    f->sources[0] = source ? source : f->url;
    struct agon_library_options o = {.sandbox = sandbox(),
                                     .dir = f->dir,
                                     .sources = f->sources,
                                     .allow_hosts = f->hosts,
                                     .delay_ms = -1,
                                     .document_bytes_max = 1 << 20};
    return EXPECT(agon_library_open(&f->lib, &o, &f->err) == 0) &&
           EXPECT(agon_retrieval_new(&f->r, f->lib, &f->err) == 0) &&
           EXPECT(agon_store_open(&f->world, ":memory:", AGON_STORE_CREATE, &f->err) == 0);
}

static void fixture_close(struct fixture *f)
{
    if (f->err.code)
        printf("# %s\n", f->err.text);
    agon_store_close(f->world);
    agon_retrieval_free(f->r);
    agon_library_close(f->lib);
    EXPECT(agon_dir_remove(f->dir, NULL) == 0);
    site_stop(&f->site);
    agon_buf_deinit(&f->result);
}
#define FIXTURE(f, source)                                    \
    __attribute__((cleanup(fixture_close))) struct fixture f; \
    REQUIRE(fixture_open(&f, source))

static const char *fetch(struct fixture *f, const char *path, int expect)
{
    char url[256];
    snprintf(url, sizeof(url), "%s%s", *path == '/' ? f->url : "", path + (*path == '/'));
    agon_buf_reset(&f->result);
    EXPECT(agon_retrieval_fetch(f->r, url, &f->result, &f->err) == expect);
    return agon_buf_text(&f->result);
}

static const char *import(struct fixture *f, const char *arguments, int expect)
{
    char text[512];
    struct agon_err why;
    json_auto_t *a = NULL;
    snprintf(text, sizeof(text), "{\"source\": \"%s%s", f->url, arguments);
    agon_buf_reset(&f->result);
    if (EXPECT(agon_json_parse(&a, agon_str(text), &why) == 0))
        EXPECT(agon_retrieval_import(f->r, f->world, a, NULL, NULL, &f->result, NULL, &f->err) ==
               expect);
    return agon_buf_text(&f->result);
}

/* ---- crawling and searching */

TEST(crawl_finds_a_data_file_by_the_row_its_link_stands_in)
{
    FIXTURE(f, NULL);
    REQUIRE(agon_retrieval_search(f.r, "stone bridges", &f.result, &f.err) == 0);
    char first[160];
    snprintf(first, sizeof(first),
             "1. %sdata/bridges.csv\n   bridges Stone bridges over the river Ause CSV\n", f.url);
    EXPECT_HAS(agon_buf_text(&f.result), first);
}

TEST(crawl_keeps_to_the_host_and_to_robots_txt)
{
    FIXTURE(f, NULL);
    EXPECT(agon_library_n_documents(f.lib) == 4); /* two pages, two data files */
    EXPECT(!strstr(fetch(&f, "/log", 0), "/private/ledger"));
    EXPECT(!strstr(fetch(&f, "/log", 0), "from-script"));
}

TEST(japanese_is_found_by_two_characters)
{
    FIXTURE(f, NULL);
    REQUIRE(agon_retrieval_search(f.r, "小屋", &f.result, &f.err) == 0);
    EXPECT_HAS(agon_buf_text(&f.result), "mills.html");
}

TEST(a_query_of_syntax_is_words)
{
    FIXTURE(f, NULL);
    EXPECT(agon_retrieval_search(f.r, "\") OR NEAR(* -^", &f.result, &f.err) == 0);
    agon_buf_reset(&f.result);
    EXPECT(agon_retrieval_search(f.r, "zzzz", &f.result, &f.err) == 0);
    EXPECT(strcmp(agon_buf_text(&f.result), "no hits\n") == 0);
}

TEST(the_index_is_built_once)
{
    FIXTURE(f, NULL);
    char digest[65], again[65];
    REQUIRE(agon_library_digest(f.lib, digest, &f.err) == 0);
    agon_retrieval_free(AGON_STEAL(f.r));
    agon_library_close(AGON_STEAL(f.lib));
    site_stop(&f.site); /* nothing may be asked of the site again */
    struct agon_library_options o = {.sandbox = sandbox(),
                                     .dir = f.dir,
                                     .sources = f.sources,
                                     .allow_hosts = f.hosts,
                                     .delay_ms = -1};
    REQUIRE(agon_library_open(&f.lib, &o, &f.err) == 0);
    REQUIRE(agon_library_digest(f.lib, again, &f.err) == 0);
    EXPECT(strcmp(digest, again) == 0);
    EXPECT(site_start(&f.site));
}

/* ---- fetching */

TEST(fetch_shows_tables_links_and_text)
{
    FIXTURE(f, NULL);
    const char *page = fetch(&f, "/", 0);
    char links[200];
    EXPECT_HAS(page, "title: Town records\ntables:\n[1] 4 rows: Set | About | File\nlinks:\n");
    snprintf(links, sizeof(links),
             "[1] %sdata/bridges.csv bridges Stone bridges over the river Ause CSV\n", f.url);
    EXPECT_HAS(page, links);
    EXPECT_HAS(page, "text:\nTown records\nRecords of bridges and mills.\n");
}

TEST(fetch_shows_the_head_of_a_csv)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(
        fetch(&f, "/data/bridges.csv", 0),
        "csv, 3 rows, 4 columns\nname | spans | length, m | code\nLong \"Tom\" | 5 | 80.5 | 007\n");
}

TEST(fetch_follows_a_redirect_but_not_for_ever_nor_anywhere)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(fetch(&f, "/moved", 0), "title: Mills");
    EXPECT_HAS(fetch(&f, "/loop", 1), "redirects more than 5 times");
    EXPECT_HAS(fetch(&f, "/to-file", 1), "error: ");
    EXPECT_HAS(fetch(&f, "/to-private", 1), "private address");
}

TEST(fetch_obeys_robots_txt)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(fetch(&f, "/private/ledger.html", 1), "robots.txt of http://127.0.0.1:");
    EXPECT_HAS(fetch(&f, "/private/ledger.html", 1), "forbids /private/ledger.html");
    EXPECT_HAS(fetch(&f, "/private/open.html", 0), "this is open");
    EXPECT_HAS(fetch(&f, "/page.secret", 1), "robots.txt");
}

TEST(an_endless_page_is_refused)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(fetch(&f, "/endless", 1), "is larger than 1048576 bytes");
}

TEST(private_addresses_are_refused_unless_named)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(fetch(&f, "http://127.0.0.1:1/x", 1), "private address");
    EXPECT_HAS(fetch(&f, "http://localhost:1/x", 1), "private address");
    EXPECT_HAS(fetch(&f, "http://[::1]:1/x", 1), "private address");
    EXPECT_HAS(fetch(&f, "ftp://127.0.0.1/x", 1), "there is no document");
    EXPECT_HAS(fetch(&f, "http://user@127.0.0.1/x", 1), "no http or https address");
    EXPECT_HAS(fetch(&f, "doc:nothing", 1), "there is no document 'doc:nothing'");
}

TEST(a_status_is_named)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(fetch(&f, "/missing.html", 1), "answered with status 404");
}

/* ---- importing */

TEST(import_types_columns_and_picks_the_key)
{
    FIXTURE(f, NULL);
    EXPECT(strcmp(import(&f, "data/bridges.csv\", \"into\": \"bridges\", \"format\": \"csv\"}", 0),
                  "table bridges: 3 rows, key name\n- name TEXT\n- spans INTEGER\n- length_m REAL "
                  "from length, m\n- code TEXT\n") == 0);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    REQUIRE(agon_query_new(&q, f.world,
                           "SELECT name, spans, length_m, code FROM bridges WHERE length_m IS NULL",
                           &f.err) == 0);
    REQUIRE(agon_query_next(q, &f.err) == AGON_ROW);
    EXPECT(strcmp(agon_query_get_text(q, 0), "Short") == 0);
    EXPECT(strcmp(agon_query_get_text(q, 3), "008") == 0); /* a code, not the number 8 */
}

TEST(import_of_an_html_table_folds_names)
{
    FIXTURE(f, NULL);
    EXPECT(
        strcmp(import(&f, "mills.html\", \"into\": \"mills\", \"format\": \"html\", \"at\": 1}", 0),
               "table mills: 3 rows, key mill_name\n- mill_name TEXT from Mill name\n- built "
               "INTEGER from Built\n"
               "- class_ TEXT from class\n- miles_us_gallon REAL from Miles/(US) gallon\n") == 0);
    EXPECT_HAS(import(&f, "mills.html\", \"into\": \"other\", \"format\": \"html\", \"at\": 7}", 1),
               "there is no table 7");
}

TEST(import_keeps_chosen_columns_and_adds_a_key)
{
    FIXTURE(f, NULL);
    EXPECT(strcmp(import(&f,
                         "data/bridges.csv\", \"into\": \"b\", \"format\": \"csv\", \"columns\": "
                         "[\"length, m\"]}",
                         0),
                  "table b: 3 rows, key row_id\n- row_id INTEGER added\n- length_m REAL from "
                  "length, m\n") == 0);
    EXPECT_HAS(
        import(
            &f,
            "data/bridges.csv\", \"into\": \"c\", \"format\": \"csv\", \"columns\": [\"width\"]}",
            1),
        "there is no column 'width'; the columns are: name, spans, length, m, code");
}

TEST(import_refuses_what_cannot_be)
{
    FIXTURE(f, NULL);
    EXPECT_HAS(import(&f, "data/bridges.csv\", \"into\": \"select\", \"format\": \"csv\"}", 1),
               "error: into: ");
    EXPECT_HAS(import(&f, "data/bridges.csv\", \"into\": \"b; DROP\", \"format\": \"csv\"}", 1),
               "error: into: ");
    EXPECT_HAS(import(&f, "data/bridges.csv\", \"into\": \"b\", \"format\": \"json\"}", 1),
               "error: ");
    import(&f, "data/ferries.csv\", \"into\": \"b\", \"format\": \"csv\"}", 0);
    EXPECT_HAS(import(&f, "data/ferries.csv\", \"into\": \"b\", \"format\": \"csv\"}", 1),
               "the world has a table b already");
}

/* ---- readers of tables, without a network */

static struct agon_table *read_text(const char *text, enum agon_document_kind kind,
                                    const struct agon_table_options *o)
{
    struct agon_err err;
    struct agon_table *t = NULL;
    struct agon_document d = {"doc:x", kind, agon_str(text)};
    if (agon_document_table(&d, o, &t, &err))
        printf("# %s\n", err.text);
    return t;
}

TEST(comments_above_the_data_name_the_columns)
{
    struct agon_table_options o = {0};
    struct agon_table *t AGON_AUTO(agon_table_freep) = read_text(
        "# zones\n#codes\tplace\tTZ\tnote\nAD\t+42\tEurope/Andorra\nAE,OM\t+25\tAsia/Dubai\n",
        AGON_DOC_TSV, &o);
    REQUIRE(t && t->n_columns == 4 && t->n_rows == 2);
    EXPECT(agon_str_is(t->headers[0], "codes") && agon_str_is(t->headers[2], "TZ"));
    EXPECT(agon_str_is(agon_table_cell(t, 1, 0)->text, "AE,OM"));
}

TEST(white_space_tables_have_numbered_columns)
{
    struct agon_table_options o = {.format = "csv", .delimiter = "space", .comment = "#"};
    struct agon_table *t AGON_AUTO(agon_table_freep) = read_text(
        "# protocols\n\nip\t0\tIP\t\t# internet\nicmp   1   ICMP  # control\n", AGON_DOC_TEXT, &o);
    REQUIRE(t && t->n_columns == 3 && t->n_rows == 2);
    EXPECT(agon_str_is(t->headers[0], "c1"));
    EXPECT(agon_str_is(agon_table_cell(t, 1, 2)->text, "ICMP"));
}

TEST(quoted_fields_hold_newlines_and_delimiters)
{
    struct agon_table_options o = {0};
    struct agon_table *t AGON_AUTO(agon_table_freep) = read_text("\xEF\xBB\xBF"
                                                                 "a,b\n\"x,\n1\",2\n,\"\"\n\"open",
                                                                 AGON_DOC_CSV, &o);
    REQUIRE(t && t->n_rows == 3);
    EXPECT(agon_str_is(t->headers[0], "a"));
    EXPECT(agon_str_is(agon_table_cell(t, 0, 0)->text, "x,\n1"));
    EXPECT(agon_table_cell(t, 1, 0)->kind == AGON_CELL_MISSING);
    EXPECT(agon_str_is(agon_table_cell(t, 2, 0)->text, "open"));
}

/* Import a text; what it said. */
static const char *import_text(const char *text, enum agon_document_kind kind)
{
    static struct agon_buf said = AGON_BUF(1 << 20);
    struct agon_table_options o = {0};
    struct agon_err err = {0};
    struct sqlite3 *world AGON_AUTO(agon_store_closep) = NULL;
    struct agon_table *t AGON_AUTO(agon_table_freep) = read_text(text, kind, &o);
    agon_buf_reset(&said);
    EXPECT(t && agon_store_open(&world, ":memory:", AGON_STORE_CREATE, &err) == 0);
    if (!EXPECT(agon_import(world, t, "it", NULL, &said, &err) == 0))
        printf("# %s\n", err.text);
    return agon_buf_text(&said);
}

/* Both ended the run: two rows for one key. */
TEST(keys_that_are_stored_alike_are_no_keys)
{
    struct agon_buf csv AGON_AUTO(agon_buf_deinit) = AGON_BUF(20000);
    EXPECT_HAS(import_text("id,x\n0,a\n-0,a\n", AGON_DOC_CSV), "2 rows, key row_id");
    agon_buf_adds(&csv, "k,v\n");
    for (int row = 0; row < 2; row++) {
        for (int i = 0; i < 4000; i++)
            agon_buf_addc(&csv, 'x');
        agon_buf_addf(&csv, "%d,1\n", row);
    }
    EXPECT_HAS(import_text(agon_buf_text(&csv), AGON_DOC_CSV), "2 rows, key row_id");
}

TEST(bytes_of_a_table_that_are_no_text_are_replaced)
{
    struct agon_table_options o = {0};
    struct agon_table *t AGON_AUTO(agon_table_freep) =
        read_text("a,b\n\xff\xfe,1\nx\xED\xA0\x80,2\n", AGON_DOC_CSV, &o);
    REQUIRE(t && t->n_rows == 2);
    EXPECT(agon_str_is(agon_table_cell(t, 0, 0)->text, "\xEF\xBF\xBD\xEF\xBF\xBD"));
    EXPECT(agon_str_is(agon_table_cell(t, 1, 0)->text, "x\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"));
}

TEST(json_arrays_are_found_by_pointer_and_by_size)
{
    const char *text = "{\"small\": [{\"a\": 1}], \"x/y\": [], \"big\": {\"in\": [{\"n\": \"007\", "
                       "\"v\": 1.5, \"o\": {}}, {\"n\": null, \"w\": true}, {}]}}";
    struct agon_table_options o = {0}, small = {.pointer = "/small"}, none = {.pointer = "/big"};
    struct agon_table *t AGON_AUTO(agon_table_freep) = read_text(text, AGON_DOC_JSON, &o);
    REQUIRE(t && t->n_rows == 3 && t->n_columns == 3);
    EXPECT(agon_table_cell(t, 0, 0)->kind == AGON_CELL_STRING &&
           agon_table_cell(t, 0, 1)->kind == AGON_CELL_REAL);
    EXPECT(agon_table_cell(t, 1, 0)->kind == AGON_CELL_MISSING);
    struct agon_table *s AGON_AUTO(agon_table_freep) = read_text(text, AGON_DOC_JSON, &small);
    EXPECT(s && s->n_rows == 1);
    EXPECT(read_text(text, AGON_DOC_JSON, &none) == NULL);
    struct agon_err err;
    struct agon_table *empty = NULL; /* rows of nothing are no table, and no failure of ours */
    EXPECT(agon_table_read_json(&empty, agon_str("[[], []]"), "", &err) == AGON_TABLE_NONE);
}

TEST(a_deeply_nested_page_is_read_in_time)
{
    struct agon_buf page = AGON_BUF(8 << 20);
    struct agon_html html;
    struct agon_err err;
    for (int i = 0; i < 400000; i++)
        agon_buf_adds(&page, "<b><span>");
    agon_buf_adds(&page, "<table>");
    EXPECT(agon_html_parse(&html, agon_buf_str(&page), "http://h/", &err) == 0);
    agon_html_deinit(&html);
    agon_buf_deinit(&page);
}

TEST(folding_gives_identifiers)
{
    static const struct {
        const char *header, *name;
    } cases[] = {{"Miles/(US) gallon", "miles_us_gallon"},
                 {"  Price $ ", "price"},
                 {"2010", "c_2010"},
                 {"class", "class_"},
                 {"\xC3\x9C"
                  "ber",
                  "ber"},
                 {"", "col"},
                 {"--", "col"},
                 {"Sepal.Length", "sepal_length"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[64];
        agon_import_fold(agon_str(cases[i].header), name);
        if (!EXPECT(strcmp(name, cases[i].name) == 0))
            printf("# '%s' became '%s', not '%s'\n", cases[i].header, name, cases[i].name);
    }
}

TEST(a_crawl_delay_that_is_no_number_is_none)
{
    static const struct {
        const char *text;
        int ms;
    } cases[] = {{"nan", -1}, {"inf", 60000}, {"-inf", -1}, {"1e999", 60000},
                 {"-2", -1},  {"\n7\n", 0},   {"0.5", 500}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_robots *r AGON_AUTO(agon_robots_freep) = NULL;
        char text[100];
        snprintf(text, sizeof(text), "User-agent: *\nCrawl-delay: %s", cases[i].text);
        REQUIRE(agon_robots_parse(&r, agon_str(text), "agon", NULL) == 0);
        if (!EXPECT(agon_robots_delay_ms(r) == cases[i].ms))
            printf("# %s: %d\n", cases[i].text, agon_robots_delay_ms(r));
    }
}

TEST(robots_rules_follow_rfc_9309)
{
    static const char text[] =
        "User-Agent: other\nDisallow: /\n\nuser-agent: AGON\nuser-agent: x\nDisallow: /a # not "
        "this\n"
        "Allow: /a/b\nDisallow: /*.gif$\nCrawl-delay: 2\nUser-agent: *\nDisallow: /\n";
    struct agon_robots *r AGON_AUTO(agon_robots_freep) = NULL;
    REQUIRE(agon_robots_parse(&r, agon_str(text), "agon", NULL) == 0);
    EXPECT(agon_robots_allow(r, "/"));
    EXPECT(!agon_robots_allow(r, "/a"));
    EXPECT(!agon_robots_allow(r, "/abc"));
    EXPECT(agon_robots_allow(r, "/a/b/c"));
    EXPECT(!agon_robots_allow(r, "/x/y.gif"));
    EXPECT(agon_robots_allow(r, "/x/y.gif?size=1"));
    EXPECT(agon_robots_delay_ms(r) == 2000);
    /* Of two that are equally long the one that allows wins, whichever stands first. */
    static const char *const ties[] = {"User-agent: *\nAllow: /p\nDisallow: /p\n",
                                       "User-agent: *\nDisallow: /p\nAllow: /p\n"};
    for (int i = 0; i < 2; i++) {
        struct agon_robots *tie AGON_AUTO(agon_robots_freep) = NULL;
        REQUIRE(agon_robots_parse(&tie, agon_str(ties[i]), "agon", NULL) == 0);
        EXPECT(agon_robots_allow(tie, "/page"));
    }
}
