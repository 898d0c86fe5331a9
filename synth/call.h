#pragma once
/*
 * A call that a model's turn asks for: from its arguments to the whole text of the result, and the
 * page of it that the model sees (PROTOCOL.md, "Pages", "Errors that every tool can give").
 * Episodes make calls; a replay makes them again.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>

enum {
    AGON_CALL_REFUSED = 1, /* result is a sentence for the model; "error: " is put before it */
    AGON_CALL_LAST = 2,    /* done, and the episode ends here */
};
struct agon_episode_tool {
    const char *name;       /* borrowed, as everything here */
    const json_t *function; /* {"type":"function","function":{...}} as the model sees it */
    bool checks_arguments;  /* call() checks arguments against the schema itself */
    /* Append the result's text. 0, AGON_CALL_*, or <0 (ends the run, not the episode).
     * `arguments` come without `more`. */
    int (*call)(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                struct agon_err *err);
    void *user;
};

/* The tools of a conversation, and its long results, for pages after the first. */
struct agon_calls {
    const struct agon_episode_tool *tools;
    int n_tools;
    json_t *results; /* owned: the whole text, by memo */
    int n_made;      /* calls of tools that exist */
};
int agon_calls_init(struct agon_calls *c, const struct agon_episode_tool *tools, int n_tools,
                    struct agon_err *err) AGON_MUST_USE;
void agon_calls_deinit(struct agon_calls *c);

/* One call, made. Zero it; deinit it. */
struct agon_call {
    int status;            /* 0 or AGON_CALL_* */
    int page;              /* asked for, from 1 */
    bool short_text;       /* the driver's own sentence, which has no pages */
    struct agon_buf memo;  /* tool and arguments */
    struct agon_buf whole; /* the result, without "error: " */
};
void agon_call_deinit(struct agon_call *call);
/* Make call number `index` (from 0) of a turn: {"function": {"name", "arguments": TEXT}}. <0 ends
 * the run; what the model did wrong is a status. */
int agon_calls_make(struct agon_calls *c, const json_t *request, size_t index,
                    struct agon_call *ret, struct agon_err *err) AGON_MUST_USE;
/* Append what the model sees of it, in pages of `cap` characters. Returns the number of pages. */
int agon_call_show(const struct agon_call *call, size_t cap, struct agon_buf *shown);
/* Is the page that was asked for past the last of n_pages? Then the call is refused after all. */
bool agon_call_is_past(const struct agon_call *call, int n_pages);
/* Keep a result of several pages, for the later ones. */
int agon_calls_keep(struct agon_calls *c, const struct agon_call *call,
                    struct agon_err *err) AGON_MUST_USE;
