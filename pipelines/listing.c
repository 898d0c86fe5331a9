/* Listings: see listing.h. Text of models goes to a terminal: control characters never do. */
#include "pipelines/listing.h"

#include "pipelines/corpus.h"
#include "verifiers/passk.h"

enum { PROMPT_CHARACTERS = 72 };

void agon_listing_text(FILE *to, const char *text, int n_max)
{
    int n = 0;
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c & 0xC0) != 0x80 && n++ == n_max) {
            fputs("…", to);
            return;
        }
        /* C1 controls are 0xC2 0x80..0x9F in UTF-8 */
        if (c == 0xC2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xA0)
            p++;
        else
            fputc(c < 0x20 || c == 0x7F ? ' ' : c, to);
    }
}

int agon_listing_environments(struct agon_corpus *c, FILE *to, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(c),
                       "SELECT e.id, e.status, e.next, e.reason,"
                       " (SELECT count(*) FROM tasks t WHERE t.environment = e.id AND t.status ="
                       " 'kept'), (SELECT count(*) FROM tasks t WHERE t.environment = e.id),"
                       " c.description FROM environments e JOIN categories c ON c.id ="
                       " e.category ORDER BY e.id",
                       err);
    if (r)
        return r;
    fprintf(to, "%-24s %-7s %-8s %s\n", "environment", "status", "tasks", "category");
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        const char *reason = agon_query_get_text(q, 3);
        char tasks[32];
        snprintf(tasks, sizeof(tasks), "%d of %d", (int)agon_query_get_int(q, 4),
                 (int)agon_query_get_int(q, 5));
        fprintf(to, "%-24s %-7s %-8s ", agon_query_get_text(q, 0), agon_query_get_text(q, 1),
                tasks);
        agon_listing_text(to, agon_query_get_text(q, 6), PROMPT_CHARACTERS);
        if (*reason) {
            fputs("\n    ", to);
            agon_listing_text(to, reason, 2 * PROMPT_CHARACTERS);
        } else if (strcmp(agon_query_get_text(q, 2), "done") != 0) {
            fprintf(to, " (next: %s)", agon_query_get_text(q, 2));
        }
        fputc('\n', to);
    }
    return r;
}

/* pass@1 with its interval of 95%, from the first rollouts. */
static void print_rate(FILE *to, int n, int c)
{
    double low, high;
    if (n == 0) {
        fprintf(to, "%-20s", "-");
        return;
    }
    agon_pass_at_k_interval(n, c, 1, 0.05, &low, &high);
    fprintf(to, "%.2f [%.2f, %.2f]   ", agon_pass_at_k(n, c, 1), low, high);
}

static int print_tasks(struct agon_query *q, bool reasons, FILE *to, struct agon_err *err)
{
    int r;
    fprintf(to, "%-24s %-7s %5s  %-7s %-20s %s\n", "environment", "task", "level", "passed",
            "pass@1", "prompt");
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        char passed[32] = "-";
        if (!agon_query_is_null(q, 5))
            snprintf(passed, sizeof(passed), "%d/%d", (int)agon_query_get_int(q, 6),
                     (int)agon_query_get_int(q, 5));
        fprintf(to, "%-24s %-7s %5d  %-7s ", agon_query_get_text(q, 0), agon_query_get_text(q, 1),
                (int)agon_query_get_int(q, 2), passed);
        print_rate(to, (int)agon_query_get_int(q, 7), (int)agon_query_get_int(q, 8));
        agon_listing_text(to, agon_query_get_text(q, 9), PROMPT_CHARACTERS);
        const char *status = agon_query_get_text(q, 3), *reason = agon_query_get_text(q, 4);
        if (reasons && strcmp(status, "kept") != 0) {
            fprintf(to, "\n    %s%s", status, *reason ? ": " : "");
            agon_listing_text(to, reason, 2 * PROMPT_CHARACTERS);
        }
        fputc('\n', to);
    }
    return r;
}

static const char tasks_sql[] =
    "SELECT t.environment, t.id, t.level, t.status, t.reason, s.n, s.c, s.n_first, s.c_first,"
    " t.definition ->> 'prompt' FROM tasks t LEFT JOIN stats s ON s.environment = t.environment"
    " AND s.task = t.id AND s.purpose = 'filter'"
    " WHERE CASE WHEN ?1 IS NULL THEN t.status = 'kept' ELSE t.environment = ?1 END"
    " ORDER BY t.environment, t.id";

int agon_listing_tasks(struct agon_corpus *c, const char *environment, FILE *to,
                       struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c), tasks_sql, err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    return print_tasks(q, true, to, err);
}

int agon_listing_kept(struct agon_corpus *c, FILE *to, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_query *sum AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c), tasks_sql, err);
    if (r)
        return r;
    agon_query_null(q, 1);
    if ((r = print_tasks(q, false, to, err)) ||
        (r = agon_query_new(
             &sum, agon_corpus_db(c),
             "SELECT (SELECT count(*) FROM environments WHERE status = 'kept'),"
             " (SELECT count(*) FROM environments), (SELECT count(*) FROM tasks WHERE"
             " status = 'kept'), (SELECT count(*) FROM tasks), (SELECT"
             " coalesce(max(level), 0) FROM tasks WHERE status = 'kept')",
             err)))
        return r;
    if ((r = agon_query_next(sum, err)) < 0)
        return r;
    fprintf(to, "%d of %d environments and %d of %d tasks kept, the highest of level %d\n",
            (int)agon_query_get_int(sum, 0), (int)agon_query_get_int(sum, 1),
            (int)agon_query_get_int(sum, 2), (int)agon_query_get_int(sum, 3),
            (int)agon_query_get_int(sum, 4));
    return 0;
}

void agon_listing_block(FILE *to, const char *text)
{
    char last = '\n';
    for (const char *p = text; *p; last = *p++) {
        unsigned char c = (unsigned char)*p;
        if (c == 0xC2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xA0)
            p++;
        else
            fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F ? ' ' : c, to);
    }
    if (last != '\n')
        fputc('\n', to);
}
