/* What search, fetch and import_table do for one stage: see retrieval.h. */
#include "synth/retrieval.h"

#include "base/file.h"
#include "base/http.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sha256.h"
#include "synth/retrieval/import.h"
#include "synth/retrieval/library.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RETRIEVAL_HITS = 6, RETRIEVAL_SEARXNG_MAX = 1 << 20 };

/* A document that this stage has read. The body is on disk under its hash. */
struct held {
    char *address, *title;
    char sha256[65];
    enum agon_document_kind kind;
    struct agon_buf body;
    char broken[256]; /* not "": a parser was lost over it, and none is risked again */
};

struct agon_retrieval {
    struct agon_library *lib;
    struct agon_index *own; /* what this stage fetched and the library does not hold */
    char *docs_dir;         /* links to the bodies, by names that a person can read */
    struct held *held;
    int n_held;
};

int agon_retrieval_new(struct agon_retrieval **ret, struct agon_library *lib, struct agon_err *err)
{
    struct agon_retrieval *r AGON_AUTO(agon_retrieval_freep) = calloc(1, sizeof(*r));
    if (!r)
        return agon_fail(err, AGON_ENOMEM, "retrieval: out of memory");
    r->lib = lib;
    int bad = agon_index_open(&r->own, NULL, err);
    if (bad)
        return bad;
    if (asprintf(&r->docs_dir, "%s/" AGON_STAGE_DOCS "XXXXXX", lib->dir) < 0)
        return r->docs_dir = NULL, agon_fail(err, AGON_ENOMEM, "retrieval: out of memory");
    /* The bash box runs as another user and shows this directory: nothing in it is secret. */
    if (!mkdtemp(r->docs_dir) || chmod(r->docs_dir, 0755))
        return agon_fail(err, AGON_ESYS, "%s: %m", r->docs_dir);
    *ret = AGON_STEAL(r);
    return 0;
}

void agon_retrieval_free(struct agon_retrieval *r)
{
    if (!r)
        return;
    agon_index_close(r->own);
    if (r->docs_dir && agon_dir_remove(r->docs_dir, NULL))
        agon_log(AGON_LOG_WARN, "retrieval", "%s could not be removed", r->docs_dir);
    free(r->docs_dir);
    for (int i = 0; i < r->n_held; i++) {
        free(r->held[i].address);
        free(r->held[i].title);
        agon_buf_deinit(&r->held[i].body);
    }
    free(r->held);
    free(r);
}

const char *agon_retrieval_docs_dir(const struct agon_retrieval *r)
{
    return r->docs_dir;
}

static int refuse(struct agon_buf *result, const char *fmt, ...) AGON_PRINTF(2, 3);
static int refuse(struct agon_buf *result, const char *fmt, ...)
{
    agon_buf_reset(result);
    agon_buf_adds(result, "error: ");
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(result, fmt, ap);
    va_end(ap);
    return AGON_RETRIEVAL_REFUSED;
}

/* ---- search */

struct hits {
    struct agon_buf *b;
    char *seen[RETRIEVAL_HITS];
    int n, failed;
};

static int add_hit(void *user, const char *address, const char *title, const char *snippet)
{
    struct hits *h = user;
    for (int i = 0; i < h->n; i++)
        if (strcmp(h->seen[i], address) == 0)
            return 0;
    if (h->n == RETRIEVAL_HITS)
        return 0;
    if (!(h->seen[h->n] = strdup(address)))
        return h->failed = AGON_ENOMEM;
    agon_buf_addf(h->b, "%d. %s\n   %s\n   %s\n", ++h->n, address, title, snippet);
    return 0;
}

/* An endpoint's words as one line of at most size bytes: a hit must not look like several. */
static void plain_line(char *ret, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < size; text++)
        ret[n++] = (unsigned char)*text < ' ' || *text == 0x7F ? ' ' : *text;
    while (*text && n > 0 && ((unsigned char)*text & 0xC0) == 0x80) /* cut between characters */
        text--, n--;
    ret[n] = '\0';
}

/* Ask a SearXNG-compatible endpoint (GET /search?q=...&format=json). */
static int search_searxng(struct agon_retrieval *r, const char *query, struct hits *hits,
                          struct agon_err *err)
{
    struct agon_buf url = AGON_BUF(8192);
    agon_buf_addf(&url, "%s/search?format=json&q=", r->lib->options.searxng_url);
    for (const unsigned char *p = (const unsigned char *)query; *p; p++)
        agon_buf_addf(&url, isalnum(*p) ? "%c" : "%%%02X", *p);
    struct agon_http *http AGON_AUTO(agon_http_freep) = NULL;
    struct agon_http_response res = {0};
    struct agon_http_request req = {.url = agon_buf_text(&url),
                                    .user_agent = r->lib->options.user_agent,
                                    .body_bytes_max = RETRIEVAL_SEARXNG_MAX};
    int bad = agon_buf_check(&url, "search", err);
    if (!bad && !(bad = agon_http_new(&http, err)) &&
        !(bad = agon_http_run(http, &req, &res, err))) {
        json_auto_t *root = NULL;
        if (res.end != AGON_HTTP_OK || res.status != 200)
            agon_log(AGON_LOG_WARN, "search", "%.200s: status %ld %.200s",
                     r->lib->options.searxng_url, res.status, res.reason);
        else if (!agon_json_parse(&root, agon_buf_str(&res.body), NULL)) {
            const json_t *results = json_object_get(root, "results");
            for (size_t i = 0; i < json_array_size(results); i++) {
                const json_t *hit = json_array_get(results, i);
                char address[2048], title[256], content[1024];
                const char *link = agon_json_text(hit, "url", "");
                plain_line(address, sizeof(address), link);
                plain_line(title, sizeof(title), agon_json_text(hit, "title", ""));
                plain_line(content, sizeof(content), agon_json_text(hit, "content", ""));
                if (strcmp(address, link) == 0 &&
                    (strncmp(link, "http://", 7) == 0 || strncmp(link, "https://", 8) == 0))
                    (void)add_hit(hits, address, title, content);
            }
        }
    }
    agon_http_response_deinit(&res);
    agon_buf_deinit(&url);
    return bad;
}

int agon_retrieval_search(struct agon_retrieval *r, const char *query, struct agon_buf *result,
                          struct agon_err *err)
{
    struct hits hits = {.b = result};
    int bad = agon_index_search(r->lib->index, query, RETRIEVAL_HITS, add_hit, &hits, err);
    if (!bad && r->lib->options.searxng_url)
        bad = search_searxng(r, query, &hits, err);
    if (!bad)
        bad = agon_index_search(r->own, query, RETRIEVAL_HITS, add_hit, &hits, err);
    if (hits.n == 0)
        agon_buf_adds(result, "no hits\n");
    for (int i = 0; i < hits.n; i++)
        free(hits.seen[i]);
    return bad || hits.failed ? agon_err_in(err, bad ? bad : hits.failed, "search") : 0;
}

/* ---- documents */

static struct held *find_held(struct agon_retrieval *r, const char *address)
{
    for (int i = 0; i < r->n_held; i++)
        if (strcmp(r->held[i].address, address) == 0)
            return &r->held[i];
    return NULL;
}

/* A name for /docs in the bash box: the last part of the address, made plain. */
static int link_document(struct agon_retrieval *r, const struct held *h, struct agon_err *err)
{
    char name[80], path[4300];
    const char *last = strrchr(h->address, '/');
    snprintf(name, sizeof(name), "%.60s", last && last[1] ? last + 1 : "index");
    for (char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '.' && *p != '_' && *p != '-')
            *p = '_';
    snprintf(path, sizeof(path), "%s/%d_%s", r->docs_dir, r->n_held, name);
    return agon_file_write(path, agon_buf_str(&h->body), false, err);
}

/* Take a body into the stage: kept under its hash, shown to bash, found by search. */
static int hold(struct agon_retrieval *r, const char *address, const char *content_type,
                const char *title, struct agon_buf *body, struct held **ret, struct agon_err *err)
{
    struct held *held = realloc(r->held, (size_t)(r->n_held + 1) * sizeof(*held));
    if (!held)
        return agon_fail(err, AGON_ENOMEM, "retrieval: out of memory");
    r->held = held;
    struct held *h = &held[r->n_held];
    *h = (struct held){.address = strdup(address), .title = strdup(title), .body = *body};
    *body = (struct agon_buf)AGON_BUF(0);
    r->n_held++;
    if (!h->address || !h->title)
        return agon_fail(err, AGON_ENOMEM, "retrieval: out of memory");
    h->kind = agon_document_sniff(address, content_type, agon_buf_str(&h->body));
    int bad = agon_library_keep(r->lib, agon_buf_str(&h->body), h->sha256, err);
    if (!bad)
        bad = link_document(r, h, err);
    struct agon_index_facts facts;
    if (!bad && (bad = agon_index_find(r->lib->index, address, &facts, err)) == 0) {
        struct agon_index_entry e = {
            .address = address, .title = title, .sha256 = h->sha256, .path = ""};
        struct agon_document d = {h->address, h->kind, agon_buf_str(&h->body)};
        struct agon_words words;
        struct agon_err why = {0};
        bad = agon_parser_words(r->lib->parser, &d, false, &words, &why);
        if (bad < 0)
            (void)agon_fail(err, bad, "%s", why.text);
        if (bad > 0)
            snprintf(h->broken, sizeof(h->broken), "%.255s", why.text);
        if (bad == 0) {
            e.text = words.text;
            e.title = *title ? title : words.title;
            e.summary = *words.summary ? words.summary : NULL;
            bad = agon_index_put(r->own, &e, err);
        }
    }
    *ret = h;
    return bad < 0 ? bad : 0;
}

static int read_kept(struct agon_retrieval *r, const char *address,
                     const struct agon_index_facts *facts, struct held **ret,
                     struct agon_buf *result, struct agon_err *err)
{
    char sha256[65];
    struct agon_buf body = AGON_BUF(r->lib->options.document_bytes_max);
    struct agon_err why;
    int bad = agon_file_read(&body, facts->path, r->lib->options.document_bytes_max, &why);
    if (bad) { /* the author is told what became of the file, not what became of the disk */
        agon_buf_deinit(&body);
        if (bad != AGON_EINPUT && access(facts->path, R_OK) == 0)
            return agon_fail(err, bad, "%s", why.text);
        return refuse(result, "%.200s can't be read: %s", address, why.text);
    }
    agon_sha256_of(agon_buf_str(&body), sha256);
    if (strcmp(sha256, facts->sha256) != 0) { /* the index is frozen; so is what it speaks of */
        agon_buf_deinit(&body);
        return refuse(result, "%.200s has changed since it was indexed", address);
    }
    bad = hold(r, address, "", facts->title, &body, ret, err);
    agon_buf_deinit(&body);
    return bad;
}

static int read_web(struct agon_retrieval *r, const char *address, const char *title,
                    struct held **ret, struct agon_buf *result, struct agon_err *err)
{
    struct agon_fetched f = {0};
    struct agon_buf reason = AGON_BUF(4096);
    int bad = agon_fetcher_get(r->lib->fetcher, address, &f, &reason, err);
    if (bad > 0)
        bad = refuse(result, "%s", agon_buf_text(&reason));
    else if (!bad)
        bad = hold(r, address, f.content_type, title, &f.body, ret, err);
    agon_buf_deinit(&reason);
    agon_fetched_deinit(&f);
    return bad;
}

static int document(struct agon_retrieval *r, const char *address, struct held **ret,
                    struct agon_buf *result, struct agon_err *err)
{
    struct agon_index_facts facts = {0};
    if ((*ret = find_held(r, address)))
        return 0;
    int found = agon_index_find(r->lib->index, address, &facts, err);
    if (found < 0)
        return found;
    if (found && *facts.path)
        return read_kept(r, address, &facts, ret, result, err);
    if (strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0)
        return read_web(r, address, facts.title, ret, result, err);
    return refuse(result,
                  "there is no document '%.150s'; fetch reads addresses that search or a link gave",
                  address);
}

int agon_retrieval_fetch(struct agon_retrieval *r, const char *address, struct agon_buf *result,
                         struct agon_err *err)
{
    struct held *h;
    int bad = document(r, address, &h, result, err);
    if (bad)
        return bad;
    struct agon_document d = {h->address, h->kind, agon_buf_str(&h->body)};
    struct agon_err why = {0};
    if (!h->broken[0] && (bad = agon_parser_render(r->lib->parser, &d, result, &why)) > 0)
        snprintf(h->broken, sizeof(h->broken), "%.255s", why.text);
    if (h->broken[0])
        return refuse(result, "%s", h->broken);
    return bad ? agon_fail(err, bad, "%s", why.text) : 0;
}

/* ---- import_table */

static struct agon_table_options table_options(const json_t *a)
{
    const json_t *at = json_object_get(a, "at");
    struct agon_table_options o = {.format = agon_json_text(a, "format", NULL),
                                   .delimiter = agon_json_text(a, "delimiter", NULL),
                                   .comment = agon_json_text(a, "comment", NULL)};
    if (json_is_integer(at))
        o.number = (int)json_integer_value(at);
    else if (json_is_string(at) && o.format && strcmp(o.format, "html") == 0)
        o.number = atoi(json_string_value(at));
    else if (json_is_string(at))
        o.pointer = json_string_value(at);
    return o;
}

static int import_body(struct agon_parser *parser, const struct agon_document *d,
                       struct sqlite3 *world, const json_t *a, struct agon_buf *result,
                       struct agon_err *err)
{
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table_options o = table_options(a);
    struct agon_err why;
    int bad = agon_parser_table(parser, d, &o, &t, &why);
    if (bad > 0)
        return refuse(result, "%s", why.text);
    if (bad < 0) {
        if (err)
            *err = why;
        return bad;
    }
    bad = agon_import(world, t, agon_json_text(a, "into", ""), json_object_get(a, "columns"),
                      result, err);
    return bad > 0 ? AGON_RETRIEVAL_REFUSED : bad;
}

int agon_retrieval_import(struct agon_retrieval *r, struct sqlite3 *world, const json_t *arguments,
                          agon_read_work_fn *read_work, void *user, struct agon_buf *result,
                          json_t **ret_source, struct agon_err *err)
{
    const char *source = agon_json_text(arguments, "source", "");
    struct agon_buf work = AGON_BUF(r->lib->options.document_bytes_max);
    struct agon_document d = {.address = source};
    char sha256[65];
    const char *title = "";
    int bad = 0;
    if (strstr(source, ":") || !read_work) {
        struct held *h;
        if (!(bad = document(r, source, &h, result, err))) {
            d = (struct agon_document){h->address, h->kind, agon_buf_str(&h->body)};
            memcpy(sha256, h->sha256, sizeof(sha256));
            title = h->title;
            if (h->broken[0])
                bad = refuse(result, "%s", h->broken);
        }
    } else if ((bad = read_work(user, source, &work, err)) > 0) { /* or it is too big */
        bad = refuse(result, "there is no file '%.150s' below /work that can be read", source);
    } else if (!bad) {
        d.body = agon_buf_str(&work);
        d.kind = agon_document_sniff(source, "", d.body);
        bad = agon_library_keep(r->lib, d.body, sha256, err);
    }
    if (!bad)
        bad = import_body(r->lib->parser, &d, world, arguments, result, err);
    if (!bad && ret_source)
        *ret_source = json_pack("{s:s, s:s, s:s, s:s}", "url", source, "sha256", sha256, "title",
                                title, "licence", "");
    if (!bad && ret_source && !*ret_source)
        bad = agon_fail(err, AGON_ENOMEM, "import_table: out of memory");
    agon_buf_deinit(&work);
    return bad;
}
