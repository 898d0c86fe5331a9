/* The author's search, fetch and import_table. */
#include "base/json.h"
#include "base/store.h"
#include "synth/stage_internal.h"

int agon_author_search(void *user, const char *name, const json_t *arguments,
                       struct agon_buf *result, struct agon_err *err)
{
    struct agon_stage_run *run = user;
    (void)name; /* one function a tool */
    const char *query = agon_json_text(arguments, "query", "");
    int r = agon_stage_retrieval(run, err);
    if (r || (r = agon_retrieval_search(run->retrieval, query, result, err)) < 0)
        return r;
    int noted = agon_stage_note(run, "search", json_pack("{s:s}", "query", query), err);
    return noted ? noted : r;
}

int agon_author_fetch(void *user, const char *name, const json_t *arguments,
                      struct agon_buf *result, struct agon_err *err)
{
    struct agon_stage_run *run = user;
    (void)name;
    const char *address = agon_json_text(arguments, "address", "");
    int r = agon_stage_retrieval(run, err);
    if (r || (r = agon_retrieval_fetch(run->retrieval, address, result, err)) < 0)
        return r;
    int noted = agon_stage_note(
        run, "fetch", json_pack("{s:s, s:b}", "address", address, "refused", r != 0), err);
    return noted ? noted : r;
}

/* Remember where a table came from, once for each address. */
static int sources_add(struct agon_draft *draft, json_t *source, struct agon_err *err)
{
    size_t i;
    json_t *old;
    json_array_foreach(draft->sources, i,
                       old) if (strcmp(agon_json_text(old, "url", ""),
                                       agon_json_text(source, "url", "")) == 0) return 0;
    return json_array_append(draft->sources, source)
               ? agon_fail(err, AGON_ENOMEM, "sources: out of memory")
               : 0;
}

int agon_author_import_table(void *user, const char *name, const json_t *arguments,
                             struct agon_buf *result, struct agon_err *err)
{
    struct agon_stage_run *run = user;
    struct sqlite3 *world AGON_AUTO(agon_store_closep) = NULL;
    json_auto_t *source = NULL;
    (void)name;
    int r = agon_stage_retrieval(run, err);
    if (r || (r = agon_store_open(&world, run->draft->world_path, AGON_STORE_WRITE, err)) ||
        (r = agon_retrieval_import(run->retrieval, world, arguments, agon_author_read_work, run,
                                   result, &source, err)) < 0)
        return r;
    json_t *detail =
        json_pack("{s:s, s:s, s:b}", "into", agon_json_text(arguments, "into", ""), "source",
                  agon_json_text(arguments, "source", ""), "refused", r != 0);
    int noted = agon_stage_note(run, "import", detail, err);
    if (noted || r)
        return noted ? noted : r;
    if (source && (r = sources_add(run->draft, source, err)))
        return r;
    agon_store_close(AGON_STEAL(world)); /* all of it is in the file now */
    return agon_author_box_world(run, err);
}
