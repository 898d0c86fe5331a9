/*
 * Building the library: local files get doc: addresses and stay where they are;
 * sites are crawled breadth first, pages only. A data file that a page links to is
 * indexed by the words around its link (the row of the list that it stands in) and
 * read only when an author fetches it.
 */
#include "synth/retrieval/library.h"

#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LIBRARY_PAGES_MAX = 500,
    LIBRARY_FILES_MAX = 20000,
    LIBRARY_DEPTH_MAX = 12,
    LIBRARY_BYTES_MAX = 8 << 20,
    LIBRARY_DOCUMENT_MAX = 32 << 20, /* a request to a box has 64 MiB at most */
};
#define LIBRARY_USER_AGENT "agon/0.1"

int agon_library_keep(struct agon_library *lib, struct agon_str body, char ret_sha256[65],
                      struct agon_err *err)
{
    char path[4200];
    agon_sha256_of(body, ret_sha256);
    snprintf(path, sizeof(path), "%s/%s", lib->docs_dir, ret_sha256);
    if (access(path, F_OK) == 0)
        return 0;
    return agon_file_write(path, body, true,
                           err); /* its name says what is in it, also after a power loss */
}

/* One that its parser is lost over is left out, as one that cannot be read: *ret_words then has no
 * title. */
static int index_document(struct agon_library *lib, const struct agon_document *d,
                          struct agon_index_entry *e, struct agon_words *ret_words,
                          struct agon_err *err)
{
    struct agon_err why = {0};
    *ret_words = (struct agon_words){0};
    int r = agon_parser_words(lib->parser, d, d->kind == AGON_DOC_HTML, ret_words, &why);
    if (r == AGON_PARSER_LOST) {
        agon_log(AGON_LOG_WARN, "library", "left out: %s", why.text);
        return 0;
    }
    if (r < 0)
        return agon_fail(err, r, "%s", why.text);
    e->title = ret_words->title;
    e->text = ret_words->text;
    e->summary = *ret_words->summary ? ret_words->summary : NULL;
    return agon_index_put(lib->index, e, err);
}

/* ---- local files */

struct walk {
    struct agon_library *lib;
    const char *root; /* the part of paths that addresses leave out */
    size_t root_size;
    int depth, n_files;
};

static int add_file(struct walk *w, const char *path, const struct stat *st, struct agon_err *err)
{
    char address[4200], sha256[65];
    struct agon_index_facts facts;
    snprintf(address, sizeof(address), "doc:%s", path + w->root_size);
    int r = agon_index_find(w->lib->index, address, &facts, err);
    if (r < 0)
        return r;
    if (r > 0 && facts.size == st->st_size && facts.mtime == st->st_mtime &&
        strcmp(facts.path, path) == 0)
        return 0;
    struct agon_buf body = AGON_BUF(w->lib->options.document_bytes_max);
    if (access(path, R_OK) && errno == EACCES) {
        agon_log(AGON_LOG_WARN, "library", "left out: %s: %m", path);
        return 0;
    }
    r = agon_file_read(&body, path, w->lib->options.document_bytes_max, err);
    if (r) { /* what is too big is left out; a disk that fails must not make the library smaller */
        if (r == AGON_EINPUT)
            agon_log(AGON_LOG_DEBUG, "library", "left out: %s", err ? err->text : path);
        agon_buf_deinit(&body);
        return r == AGON_EINPUT ? 0 : r;
    }
    struct agon_document d = {.address = address, .body = agon_buf_str(&body)};
    d.kind = agon_document_sniff(address, "", d.body);
    r = 0;
    if (d.kind != AGON_DOC_BINARY) {
        struct agon_words words;
        agon_sha256_of(d.body, sha256);
        struct agon_index_entry e = {.address = address,
                                     .sha256 = sha256,
                                     .path = path,
                                     .size = st->st_size,
                                     .mtime = st->st_mtime};
        r = index_document(w->lib, &d, &e, &words, err);
    }
    agon_buf_deinit(&body);
    return r;
}

static int walk_path(struct walk *w, const char *path, bool follow, struct agon_err *err);

struct walk_dir {
    struct walk *walk;
    const char *path;
};

static int walk_entry(const char *name, void *user, struct agon_err *err)
{
    struct walk_dir *d = user;
    char path[4096];
    if (name[0] == '.' || snprintf(path, sizeof(path), "%s/%s", d->path, name) >= (int)sizeof(path))
        return 0;
    return walk_path(d->walk, path, false, err);
}

static int walk_path(struct walk *w, const char *path, bool follow, struct agon_err *err)
{
    struct stat st;
    if ((follow ? stat : lstat)(path, &st))
        return follow && errno == ENOENT
                   ? agon_fail(err, AGON_EINPUT, "source '%s' does not exist", path)
               : errno == ENOENT || errno == EACCES ? 0
                                                    : agon_fail(err, AGON_ESYS, "%s: %m", path);
    if (S_ISREG(st.st_mode) && w->n_files < LIBRARY_FILES_MAX) {
        w->n_files++;
        return add_file(w, path, &st, err);
    }
    if (!S_ISDIR(st.st_mode) || w->depth == LIBRARY_DEPTH_MAX)
        return 0;
    w->depth++;
    struct walk_dir d = {w, path};
    int r = agon_dir_each(path, walk_entry, &d, err);
    w->depth--;
    return r;
}

static int add_local(struct agon_library *lib, const char *source, struct agon_err *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s", source);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    const char *name = strrchr(path, '/');
    struct walk w = {.lib = lib, .root = path, .root_size = name ? (size_t)(name + 1 - path) : 0};
    int r = agon_index_begin(lib->index, err);
    if (!r)
        r = walk_path(&w, path, true, err);
    if (!r)
        r = agon_index_commit(lib->index, err);
    if (!r && w.n_files == 0)
        r = agon_fail(err, AGON_EINPUT, "source '%s' holds no file that can be read", source);
    return r;
}

/* ---- crawling */

struct crawl {
    struct agon_library *lib;
    const char *origin; /* stay on this host */
    size_t origin_size;
    char **queue;
    int n_queue, n_done, n_read, n_capacity;
};

static bool crawl_knows(const struct crawl *c, const char *url)
{
    for (int i = 0; i < c->n_queue; i++)
        if (strcmp(c->queue[i], url) == 0)
            return true;
    return false;
}

static int crawl_add(struct crawl *c, const char *url, struct agon_err *err)
{
    if (strncmp(url, c->origin, c->origin_size) != 0 || crawl_knows(c, url) ||
        c->n_queue >= c->lib->options.crawl_pages_max * 4)
        return 0;
    if (c->n_queue == c->n_capacity) {
        int capacity = c->n_capacity ? c->n_capacity * 2 : 256;
        char **queue = realloc(c->queue, (size_t)capacity * sizeof(*queue));
        if (!queue)
            return agon_fail(err, AGON_ENOMEM, "crawl: out of memory");
        c->queue = queue;
        c->n_capacity = capacity;
    }
    if (!(c->queue[c->n_queue] = strdup(url)))
        return agon_fail(err, AGON_ENOMEM, "crawl: out of memory");
    c->n_queue++;
    return 0;
}

static bool is_asset(const char *url)
{
    static const char *const suffixes[] = {".png", ".jpg", ".jpeg", ".gif", ".svg",
                                           ".css", ".js",  ".pdf",  ".zip", ".gz",
                                           ".ico", ".mp4", ".mp3",  ".xz",  ".woff"};
    size_t size = strcspn(url, "?");
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        size_t n = strlen(suffixes[i]);
        if (size > n && strncmp(url + size - n, suffixes[i], n) == 0)
            return true;
    }
    return false;
}

static int crawl_links(struct crawl *c, const struct agon_words *page, struct agon_err *err)
{
    int r = 0;
    for (int i = 0; i < page->n_links && !r; i++) {
        const struct agon_words_link *link = &page->links[i];
        struct agon_index_facts facts;
        if (!agon_document_is_data(link->url)) {
            r = is_asset(link->url) ? 0 : crawl_add(c, link->url, err);
            continue;
        }
        if ((r = agon_index_find(c->lib->index, link->url, &facts, err)) == 0) {
            struct agon_index_entry e = {.address = link->url,
                                         .title = link->context,
                                         .text = agon_str(link->context),
                                         .summary = link->context,
                                         .sha256 = "",
                                         .path = ""};
            r = agon_index_put(c->lib->index, &e, err);
        }
        r = r > 0 ? 0 : r;
    }
    return r;
}

static int crawl_page(struct crawl *c, const char *url, struct agon_err *err)
{
    struct agon_fetched f = {0};
    struct agon_buf reason = AGON_BUF(4096);
    int r = agon_fetcher_get(c->lib->fetcher, url, &f, &reason, err);
    if (r) {
        if (r > 0 && c->n_read == 0 && c->n_done == 1)
            r = agon_fail(err, AGON_EINPUT, "source '%s': %s", url, agon_buf_text(&reason));
        else if (r > 0)
            agon_log(AGON_LOG_DEBUG, "crawl", "%s", agon_buf_text(&reason));
        agon_buf_deinit(&reason);
        return r > 0 ? 0 : r;
    }
    agon_buf_deinit(&reason);
    struct agon_document d = {.address = url, .body = agon_buf_str(&f.body)};
    d.kind = agon_document_sniff(url, f.content_type, d.body);
    if (d.kind == AGON_DOC_HTML || d.kind == AGON_DOC_TEXT) {
        struct agon_words words;
        char sha256[65], path[4200];
        r = agon_library_keep(c->lib, d.body, sha256, err);
        snprintf(path, sizeof(path), "%s/%s", c->lib->docs_dir, sha256);
        struct agon_index_entry e = {
            .address = url, .sha256 = sha256, .path = path, .size = (int64_t)d.body.size};
        if (!r && !(r = index_document(c->lib, &d, &e, &words, err)))
            r = crawl_links(c, &words, err);
        c->n_read++;
    }
    agon_fetched_deinit(&f);
    return r;
}

static int crawl(struct agon_library *lib, const char *url, struct agon_err *err)
{
    char note[2200];
    struct agon_buf done = AGON_BUF(64);
    snprintf(note, sizeof(note), "crawled %s", url);
    int r = agon_index_get_note(lib->index, note, &done, err);
    bool finished = done.size > 0;
    agon_buf_deinit(&done);
    if (r || finished)
        return r;

    struct crawl c = {.lib = lib, .origin = url};
    const char *host = strstr(url, "://") + 3;
    c.origin_size = (size_t)(host - url) + strcspn(host, "/?#");
    if (!(r = agon_index_begin(lib->index, err)))
        r = crawl_add(&c, url, err);
    while (!r && c.n_done < c.n_queue && c.n_read < lib->options.crawl_pages_max) {
        agon_progress(false, "crawling %s: %d pages", url, c.n_read);
        r = crawl_page(&c, c.queue[c.n_done++], err);
    }
    agon_progress_end();
    if (!r && !(r = agon_index_note(lib->index, note, "done", err)))
        r = agon_index_commit(lib->index, err);
    for (int i = 0; i < c.n_queue; i++)
        free(c.queue[i]);
    free(c.queue);
    return r;
}

/* ---- the library */

/* The folder of a stage whose driver was killed. */
static int sweep_stage(const char *name, void *user, struct agon_err *err)
{
    const struct agon_library *lib = user;
    char path[4300];
    if (strncmp(name, AGON_STAGE_DOCS, strlen(AGON_STAGE_DOCS)) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", lib->dir, name);
    return agon_dir_remove(path, err);
}

static int library_init(struct agon_library *lib, struct agon_err *err)
{
    char path[4200];
    struct agon_library_options *o = &lib->options;
    o->user_agent = o->user_agent ? o->user_agent : LIBRARY_USER_AGENT;
    o->crawl_pages_max = o->crawl_pages_max ? o->crawl_pages_max : LIBRARY_PAGES_MAX;
    o->document_bytes_max = o->document_bytes_max ? o->document_bytes_max : LIBRARY_BYTES_MAX;
    if (o->document_bytes_max > LIBRARY_DOCUMENT_MAX)
        return agon_fail(err, AGON_EINPUT,
                         "library: documents of %zu bytes, at most %d are allowed",
                         o->document_bytes_max, LIBRARY_DOCUMENT_MAX);
    if (strlen(o->dir) > 4000)
        return agon_fail(err, AGON_EINPUT, "library: a path of %zu bytes is too long",
                         strlen(o->dir));
    snprintf(path, sizeof(path), "%s/docs", o->dir);
    if (!(lib->dir = strdup(o->dir)) || !(lib->docs_dir = strdup(path)))
        return agon_fail(err, AGON_ENOMEM, "library: out of memory");
    int r = agon_dir_make(lib->docs_dir, err);
    if (r || (o->exclusive && ((r = agon_dir_each(lib->dir, sweep_stage, lib, err)) ||
                               (r = agon_dir_sweep(lib->docs_dir, err)))))
        return r;
    snprintf(path, sizeof(path), "%s/index.db", o->dir);
    if ((r = agon_parser_new(&lib->parser, o->sandbox, err)))
        return r;
    struct agon_fetcher_options fo = {.parser = lib->parser,
                                      .user_agent = o->user_agent,
                                      .allow_hosts = o->allow_hosts,
                                      .delay_ms = o->delay_ms,
                                      .bytes_max = o->document_bytes_max};
    if ((r = agon_fetcher_new(&lib->fetcher, &fo, err)))
        return r;
    return agon_index_open(&lib->index, path, err);
}

int agon_library_open(struct agon_library **ret, const struct agon_library_options *options,
                      struct agon_err *err)
{
    struct agon_library *lib AGON_AUTO(agon_library_closep) = calloc(1, sizeof(*lib));
    if (!lib)
        return agon_fail(err, AGON_ENOMEM, "library: out of memory");
    lib->options = *options;
    int r = library_init(lib, err);
    for (const char *const *s = options->sources; !r && s && *s; s++) {
        bool web = strncmp(*s, "http://", 7) == 0 || strncmp(*s, "https://", 8) == 0;
        r = web ? crawl(lib, *s, err) : add_local(lib, *s, err);
    }
    int64_t n = 0;
    if (!r)
        r = agon_index_count(lib->index, &n, err);
    if (r)
        return agon_err_in(err, r, "library");
    lib->n_documents = (int)n;
    *ret = AGON_STEAL(lib);
    return 0;
}

void agon_library_close(struct agon_library *lib)
{
    if (!lib)
        return;
    agon_index_close(lib->index);
    agon_fetcher_free(lib->fetcher);
    agon_parser_free(lib->parser);
    free(lib->dir);
    free(lib->docs_dir);
    free(lib);
}

int agon_library_n_documents(const struct agon_library *lib)
{
    return lib->n_documents;
}

int agon_library_digest(const struct agon_library *lib, char ret_hex[65], struct agon_err *err)
{
    return agon_index_digest(lib->index, ret_hex, err);
}
