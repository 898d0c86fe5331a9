#pragma once
/*
 * Categories: what environments are to be about. A file of them is text, one
 * category a line, "id: description" ("#" begins a comment), or a JSON array of
 * {"id","description"}. An id is an identifier of agon and names the environment.
 */
#include "base/buf.h"
#include "base/err.h"

struct agon_category {
    char *id, *description;
    int position; /* among all that the run was given */
};
struct agon_categories {
    struct agon_category *items; /* in the order of the file */
    int n;
};
void agon_categories_deinit(struct agon_categories *c);
/* Append those of a file. AGON_EINPUT: "cats.txt:3: ...". */
int agon_categories_read(struct agon_categories *c, const char *path,
                         struct agon_err *err) AGON_MUST_USE;
/* Append one from text on the command line: "id: description", or a description
 * alone, from whose letters and digits the id is made. */
int agon_categories_add(struct agon_categories *c, const char *text,
                        struct agon_err *err) AGON_MUST_USE;
/* Keep those whose id hashes to rank among n_ranks. */
void agon_categories_split(struct agon_categories *c, int rank, int n_ranks);
/* Digest of ids and descriptions in order, for a run's configuration. */
void agon_categories_digest(const struct agon_categories *c, char ret_hex[65]);
