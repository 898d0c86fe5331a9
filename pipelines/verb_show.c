/* agon show: an environment, a task, a stage's or a rollout's transcript. */
#include "base/json.h"
#include "envs/env.h"
#include "pipelines/corpus.h"
#include "pipelines/listing.h"
#include "pipelines/transcript.h"
#include "pipelines/verb.h"

#include <stdio.h>

struct options {
    int64_t sample, rollout;
    const char *stage;
};
static const struct agon_opt table[] = {
    {.name = "stage",
     .type = AGON_OPT_TEXT,
     .offset = offsetof(struct options, stage),
     .arg = "STAGE",
     .help = "the author's transcript of a stage: retrieve, tools, t1_l2"},
    {.name = "sample",
     .type = AGON_OPT_INT,
     .offset = offsetof(struct options, sample),
     .min = -1,
     .max = 1000,
     .arg = "N",
     .help = "which sample of the stage, from 0; -1: the last"},
    {.name = "rollout",
     .type = AGON_OPT_INT,
     .offset = offsetof(struct options, rollout),
     .min = -1,
     .max = 1000000,
     .arg = "N",
     .help = "the transcript of a task's rollout, from 0"},
    {0},
};

/* ---- from files -------------------------------------------------------------- */

static void print_json(const char *label, const json_t *value)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    if (!value)
        return;
    agon_json_dump(&b, value);
    printf("%s: ", label);
    agon_listing_block(stdout, agon_buf_text(&b));
}

static void print_task(const struct agon_task *t)
{
    printf("task %s, level %d%s%s\n\n", t->id, t->level, t->parent ? ", above " : "",
           t->parent ? t->parent : "");
    agon_listing_block(stdout, t->prompt);
    putchar('\n');
    print_json("answer schema", t->answer_schema);
    printf("answers: %s\n", t->answers == AGON_ANSWERS_ONE ? "one" : "many");
    print_json("effects", t->effects);
    print_json("golden", t->golden);
    printf("negatives: %zu\n\n-- solution.lua\n", json_array_size(t->negatives));
    agon_listing_block(stdout, t->solution);
    printf("\n-- verifier.lua\n");
    agon_listing_block(stdout, t->verifier);
}

static void print_env(const struct agon_env *e)
{
    printf("environment %s (%s)\ncategory: ", e->id, e->family);
    agon_listing_text(stdout, e->category, 1000);
    printf("\nfolder: %s\n", e->dir);
    for (int i = 0; i < e->n_sources; i++) {
        printf("source: ");
        agon_listing_text(stdout, e->sources[i].url, 300);
        printf(" sha256:");
        agon_listing_text(stdout, e->sources[i].sha256, 12);
        putchar(' ');
        agon_listing_text(stdout, e->sources[i].licence, 300);
        putchar('\n');
    }
    printf("\n-- tools.lua\n");
    agon_listing_block(stdout, e->tools);
    for (int i = 0; i < e->n_tasks; i++) {
        printf("\n%s (level %d): ", e->tasks[i].id, e->tasks[i].level);
        agon_listing_text(stdout, e->tasks[i].prompt, 2000);
        putchar('\n');
    }
}

static int show_dir(const char *dir, const char *task, struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    int r = agon_env_load(&env, dir, err);
    if (r)
        return r;
    if (!task) {
        print_env(env);
        return 0;
    }
    for (int i = 0; i < env->n_tasks; i++)
        if (strcmp(env->tasks[i].id, task) == 0) {
            print_task(&env->tasks[i]);
            return 0;
        }
    return agon_fail(err, AGON_EINPUT, "%s has no task '%s'", dir, task);
}

/* ---- from corpus.db ---------------------------------------------------------- */

static int show_transcript(struct agon_query *q, const char *what, struct agon_err *err)
{
    json_auto_t *segments = NULL;
    int r = agon_query_next(q, err);
    if (r < 0)
        return r;
    if (r == 0)
        return agon_fail(err, AGON_EINPUT, "no such %s in this corpus", what);
    agon_listing_block(stdout, agon_query_get_text(q, 1));
    if ((r = agon_json_parse(&segments, agon_query_get_str(q, 0), err)))
        return r;
    agon_transcript_print(stdout, segments);
    return 0;
}

static int show_stage(struct agon_corpus *c, const char *env, const struct options *o,
                      struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(c),
                       "SELECT transcript, 'stage ' || stage || ', sample ' || sample || ': ' ||"
                       " status || ' (' || end || ') ' || reason FROM stages WHERE environment ="
                       " ?1 AND stage = ?2 AND sample = CASE WHEN ?3 < 0 THEN (SELECT max(sample)"
                       " FROM stages WHERE environment = ?1 AND stage = ?2) ELSE ?3 END",
                       err);
    if (r)
        return r;
    agon_query_text(q, 1, env);
    agon_query_text(q, 2, o->stage);
    agon_query_int(q, 3, o->sample);
    return show_transcript(q, "stage", err);
}

static int show_rollout(struct agon_corpus *c, const char *env, const char *task,
                        const struct options *o, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(c),
                       "SELECT transcript, 'rollout ' || idx || ': ' || verdict || ' (' || end ||"
                       " ') ' || reason || char(10) || 'answer: ' || coalesce(answer, '-') ||"
                       " char(10) || 'checks: ' || checks FROM rollouts WHERE environment = ?1"
                       " AND task = ?2 AND idx = ?3 ORDER BY purpose = 'filter' DESC LIMIT 1",
                       err);
    if (r)
        return r;
    agon_query_text(q, 1, env);
    agon_query_text(q, 2, task);
    agon_query_int(q, 3, o->rollout);
    return show_transcript(q, "rollout", err);
}

/* A task that was proposed and accepted, kept or not. */
static int show_dropped(struct agon_corpus *c, const char *env, const char *task,
                        struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    json_auto_t *d = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "SELECT definition, status, reason FROM tasks WHERE environment = ?1 AND"
                           " id = ?2",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, env);
    agon_query_text(q, 2, task);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    if (r == 0)
        return agon_fail(err, AGON_EINPUT, "no task '%s/%s' in this corpus", env, task);
    if ((r = agon_json_parse(&d, agon_query_get_str(q, 0), err)))
        return r;
    printf("status: %s%s", agon_query_get_text(q, 1), *agon_query_get_text(q, 2) ? ": " : "");
    agon_listing_text(stdout, agon_query_get_text(q, 2), 1000);
    putchar('\n');
    struct agon_task t = {
        .id = (char *)(uintptr_t)task,
        .level = (int)json_integer_value(json_object_get(d, "level")),
        .prompt = (char *)(uintptr_t)agon_json_text(d, "prompt", ""),
        .answer_schema = json_object_get(d, "answer_schema"),
        .answers = strcmp(agon_json_text(d, "answers", "one"), "one") == 0 ? AGON_ANSWERS_ONE
                                                                           : AGON_ANSWERS_MANY,
        .effects = json_object_get(d, "effects"),
        .solution = (char *)(uintptr_t)agon_json_text(d, "solution", ""),
        .verifier = (char *)(uintptr_t)agon_json_text(d, "verifier", ""),
        .golden = json_object_get(d, "golden"),
        .negatives = json_object_get(d, "negatives"),
    };
    print_task(&t);
    return 0;
}

static int show_env(struct agon_corpus *c, const char *env, struct agon_err *err)
{
    char path[4096];
    struct agon_err why;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(c), "SELECT status FROM environments WHERE id = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, env);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    if (r == 0)
        return agon_fail(err, AGON_EINPUT, "no environment '%s' in this corpus; agon ls %s", env,
                         agon_corpus_dir(c));
    bool kept = strcmp(agon_query_get_text(q, 0), "kept") == 0;
    if ((r = agon_listing_tasks(c, env, stdout, err)) || !kept ||
        (r = agon_corpus_path(c, "environments", env, NULL, path, err)))
        return r;
    putchar('\n');
    return (r = show_dir(path, NULL, &why)) ? agon_fail(err, r, "%s", why.text) : 0;
}

static int show_corpus(const char *dir, const char *what, const struct options *o,
                       struct agon_err *err)
{
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    char env[128];
    int r = agon_corpus_open_read(&c, dir, err);
    if (r)
        return r;
    if (!what)
        return agon_listing_environments(c, stdout, err);
    const char *slash = strchr(what, '/');
    snprintf(env, sizeof(env), "%.*s", slash ? (int)(slash - what) : (int)strlen(what), what);
    if (o->stage)
        return show_stage(c, env, o, err);
    if (!slash)
        return show_env(c, env, err);
    return o->rollout >= 0 ? show_rollout(c, env, slash + 1, o, err)
                           : show_dropped(c, env, slash + 1, err);
}

int agon_verb_show(int argc, char **argv)
{
    struct agon_err err = {0};
    struct options o = {.sample = -1, .rollout = -1};
    int n, status;
    if (agon_verb_options(table, &o,
                          "usage: agon show CORPUS [ENVIRONMENT[/TASK]] [OPTION]...\n"
                          "       agon show ENVIRONMENT_DIR [TASK]",
                          "Text of models is shown without control characters.", 1, 2, argc, argv,
                          &n, &status))
        return status;
    char env_json[4096];
    snprintf(env_json, sizeof(env_json), "%s/env.json", argv[1]);
    FILE *is_env = fopen(env_json, "re");
    if (is_env)
        fclose(is_env);
    const char *what = n > 1 ? argv[2] : NULL;
    int r = is_env ? show_dir(argv[1], what, &err) : show_corpus(argv[1], what, &o, &err);
    return r ? agon_verb_fail("show", &err) : AGON_EXIT_OK;
}
