#pragma once
/*
 * Retrieval: what the author's search, fetch and import_table do (DESIGN.md,
 * "Retrieval"; texts: PROTOCOL.md, "Results of the author's calls").
 *
 * An agon_library is opened once for a run: an index over local directories and
 * crawled sites, frozen from then on. An agon_retrieval belongs to one stage:
 * the library, the documents that the stage fetched, and the rules of politeness.
 * Everything fetched is kept under its sha256.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>

struct agon_sandbox;
struct sqlite3;
struct agon_library;
struct agon_retrieval;

struct agon_library_options {
    struct agon_sandbox *sandbox; /* documents are taken apart in its cells; borrowed */
    const char *dir;            /* where index.db and documents are kept; made if missing */
    const char *const *sources; /* directories, files, or http(s) URLs to crawl; NULL-terminated */
    const char *const *allow_hosts; /* private hosts allowed by name ("127.0.0.1:8080"),
                                       NULL-terminated; or NULL */
    const char *searxng_url;        /* a SearXNG-compatible endpoint to ask as well, or NULL */
    const char *user_agent;         /* NULL: "agon/VERSION" */
    int crawl_pages_max;            /* of each crawled source; 0: 500 */
    int delay_ms; /* least time between two requests to one host; <0: 1000, allowed hosts 0 */
    size_t document_bytes_max; /* 0: 8 MiB; at most 32 MiB */
    bool exclusive;            /* nobody else uses dir now: remove what killed runs left in it */
};
/* Build or complete the index, then freeze it. A source whose files did not change is not read
 * again. */
int agon_library_open(struct agon_library **ret, const struct agon_library_options *options,
                      struct agon_err *err) AGON_MUST_USE;
void agon_library_close(struct agon_library *lib);
AGON_DEFINE_FREEP(struct agon_library, agon_library_close)
int agon_library_n_documents(const struct agon_library *lib);
/* Digest of the frozen index (addresses and hashes), for the run's configuration. */
int agon_library_digest(const struct agon_library *lib, char ret_hex[65],
                        struct agon_err *err) AGON_MUST_USE;

int agon_retrieval_new(struct agon_retrieval **ret, struct agon_library *lib,
                       struct agon_err *err) AGON_MUST_USE;
void agon_retrieval_free(struct agon_retrieval *r);
AGON_DEFINE_FREEP(struct agon_retrieval, agon_retrieval_free)
/* Directory of the documents this stage has fetched (for the bash box's /docs); borrowed. */
const char *agon_retrieval_docs_dir(const struct agon_retrieval *r);

enum { AGON_RETRIEVAL_REFUSED = 1 };
/* Each appends the text for the model to result; AGON_RETRIEVAL_REFUSED: result is one
 * "error: ..." sentence. <0: our own failure. */
int agon_retrieval_search(struct agon_retrieval *r, const char *query, struct agon_buf *result,
                          struct agon_err *err) AGON_MUST_USE;
int agon_retrieval_fetch(struct agon_retrieval *r, const char *address, struct agon_buf *result,
                         struct agon_err *err) AGON_MUST_USE;

/* A file that a bash box made, handed in by the caller, or NULL. */
typedef int agon_read_work_fn(void *user, const char *name, struct agon_buf *content,
                              struct agon_err *err);
/*
 * import_table's arguments as JSON (already checked against their schema). world is
 * open for writing; the table is created STRICT with a primary key, in one
 * transaction. ret_source, where not NULL, gets {"url","sha256","title","licence"} (new reference).
 */
int agon_retrieval_import(struct agon_retrieval *r, struct sqlite3 *world, const json_t *arguments,
                          agon_read_work_fn *read_work, void *user, struct agon_buf *result,
                          json_t **ret_source, struct agon_err *err) AGON_MUST_USE;
