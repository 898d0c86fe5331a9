#pragma once
/*
 * The texts that the driver shows a model: files of prompts/ (or of a directory
 * that the user names), which a person can read and replace. Trailing newlines of
 * a file are cut; `{{slot}}` is replaced once and never inside replaced text.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>

struct agon_prompts;

/* One slot and what stands in its place; lists end with {0}. */
struct agon_slot {
    const char *name;
    struct agon_str text;
};

/*
 * dir: NULL looks at AGON_PROMPTS in the environment, then at the source tree that
 * this program was built from, then at the installed data directory.
 */
int agon_prompts_load(struct agon_prompts **ret, const char *dir,
                      struct agon_err *err) AGON_MUST_USE;
void agon_prompts_free(struct agon_prompts *p);
AGON_DEFINE_FREEP(struct agon_prompts, agon_prompts_free)

/* Append the file `name` ("level.md") with its slots filled. A slot of the file that
 * is not given is an error of the file, AGON_EINPUT. */
int agon_prompts_fill(const struct agon_prompts *p, const char *name, const struct agon_slot *slots,
                      struct agon_buf *b, struct agon_err *err) AGON_MUST_USE;
/* Is there such a file? Those of context summary (summary.md, restart.md) may be absent. p may be
 * NULL. */
bool agon_prompts_has(const struct agon_prompts *p, const char *name);
/* {"type":"function","function":{...}} of an author's or solver's tool (borrowed); NULL: none. */
const json_t *agon_prompts_tool(const struct agon_prompts *p, const char *name);
/* Digest of the files that a run's models see, for its configuration; those of context summary
 * are seen where a run has it. */
const char *agon_prompts_digest(const struct agon_prompts *p, bool summary);
