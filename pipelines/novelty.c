#include "pipelines/novelty.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/store.h"
#include "pipelines/corpus.h"
#include "verifiers/skeleton.h"

#include <unistd.h>

enum { MARKS_BYTES_MAX = 256 << 20 };

static int count_new(struct agon_corpus *c, struct agon_str marks, int *n, int *n_new,
                     struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    unsigned char mark[AGON_MARK_BYTES];
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "SELECT definition ->> 'verifier' FROM tasks WHERE status = 'kept'",
                           err);
    if (r)
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        if ((r = agon_skeleton_mark(agon_str(agon_query_get_text(q, 0)), mark, err)))
            return r;
        *n += 1;
        *n_new += !agon_marks_have(marks, mark);
    }
    return r;
}

int agon_novelty_print(struct agon_corpus *c, const char *dir, FILE *to, struct agon_err *err)
{
    struct agon_buf marks AGON_AUTO(agon_buf_deinit) = AGON_BUF(MARKS_BYTES_MAX);
    char path[4096];
    int n = 0, n_new = 0;
    if (!dir || snprintf(path, sizeof(path), "%s/skeletons.bin", dir) >= (int)sizeof(path) ||
        access(path, F_OK))
        return 0;
    int r = agon_file_read(&marks, path, MARKS_BYTES_MAX, err);
    if (r)
        return r;
    if (marks.size % AGON_MARK_BYTES)
        return agon_fail(err, AGON_EINPUT, "%s: %zu bytes are no whole number of marks of %d bytes",
                         path, marks.size, AGON_MARK_BYTES);
    if ((r = count_new(c, agon_buf_str(&marks), &n, &n_new, err)) || n == 0)
        return r;
    fprintf(to, "%d of %d kept tasks (%d%%) have a verifier of a shape that training never drew\n",
            n_new, n, (100 * n_new + n / 2) / n);
    return 0;
}
