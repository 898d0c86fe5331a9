/* The author's propose_task: the draft of a task goes through every gate, or comes back
 * with the sentence of the first that refuses it. */
#include "base/json.h"
#include "synth/cleantext.h"
#include "synth/stage_internal.h"
#include "verifiers/gates.h"

#include <stdlib.h>

static char *copy_trimmed(const json_t *arguments, const char *key)
{
    const char *text = agon_json_text(arguments, key, "");
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    return strndup(text, n);
}

static int task_fill(struct agon_stage_run *run, const json_t *arguments, struct agon_task *t,
                     struct agon_err *err)
{
    const struct agon_task *below = agon_stage_below(run);
    json_t *effects = json_object_get(arguments, "effects");
    *t = (struct agon_task){
        .id = strdup(run->name),
        .parent = below ? strdup(below->id) : NULL,
        .level = run->place.level,
        .prompt = copy_trimmed(arguments, "prompt"),
        .answer_schema = json_deep_copy(json_object_get(arguments, "answer_schema")),
        .answers = strcmp(agon_json_text(arguments, "answers", "one"), "many") == 0
                       ? AGON_ANSWERS_MANY
                       : AGON_ANSWERS_ONE,
        .effects = effects ? json_deep_copy(effects) : json_array(),
        .solution = copy_trimmed(arguments, "solution"),
        .verifier = copy_trimmed(arguments, "verifier"),
    };
    if (!t->id || (below && !t->parent) || !t->prompt || !t->answer_schema || !t->effects ||
        !t->solution || !t->verifier)
        return agon_fail(err, AGON_ENOMEM, "task: out of memory");
    return 0;
}

/* Tasks of other lines, borrowed. */
static int others_collect(const struct agon_stage_run *run, struct agon_task **ret, int *ret_n,
                          struct agon_err *err)
{
    char mine[16];
    int n = 0;
    struct agon_task *others = calloc((size_t)run->draft->n_tasks + 1, sizeof(*others));
    if (!others)
        return agon_fail(err, AGON_ENOMEM, "task: out of memory");
    snprintf(mine, sizeof(mine), "t%d_", run->place.line);
    for (int i = 0; i < run->draft->n_tasks; i++)
        if (strncmp(run->draft->tasks[i].id, mine, strlen(mine)) != 0)
            others[n++] = run->draft->tasks[i];
    *ret = others;
    *ret_n = n;
    return 0;
}

static int task_refused(struct agon_stage_run *run, const struct agon_gate_report *report,
                        struct agon_buf *result, struct agon_err *err)
{
    const char *sentence = agon_buf_text(&report->reason);
    int r = agon_stage_note(run, "refused",
                            json_pack("{s:i, s:o, s:O*}", "gate", report->gate, "reason",
                                      agon_cleantext_json(agon_str(sentence)), "disagreement",
                                      json_object_get(report->evidence, "disagreement")),
                            err);
    if (r)
        return r;
    agon_buf_addf(result, "error: %s", sentence);
    if (run->proposals < run->place.stage->proposals_max)
        return AGON_CALL_REFUSED;
    snprintf(run->failure, sizeof(run->failure), "%d proposals were refused, the last by gate %d",
             run->proposals, report->gate);
    return AGON_CALL_LAST;
}

static int task_accepted(struct agon_stage_run *run, struct agon_task *task,
                         struct agon_gate_report *report, struct agon_buf *result,
                         struct agon_err *err)
{
    int r = agon_stage_note(run, "accepted",
                            json_pack("{s:s, s:i, s:O*}", "task", task->id, "proposals",
                                      run->proposals, "evidence", report->evidence),
                            err);
    if (r || (r = agon_draft_add_task(run->draft, task, err)))
        return r;
    run->accepted = true;
    agon_buf_addf(result, "accepted: level %d", run->place.level);
    return AGON_CALL_LAST;
}

int agon_author_propose_task(void *user, const char *name, const json_t *arguments,
                             struct agon_buf *result, struct agon_err *err)
{
    struct agon_stage_run *run = user;
    struct agon_task task AGON_AUTO(agon_task_deinit) = {0};
    struct agon_gate_report report AGON_AUTO(agon_gate_report_deinit) = {.reason = AGON_BUF(8192)};
    struct agon_task *others = NULL;
    int n_others = 0;
    (void)name;
    int r = task_fill(run, arguments, &task, err);
    if (r || (r = others_collect(run, &others, &n_others, err)))
        return r;
    run->proposals++;
    struct agon_rng rng = agon_rng_split(&run->rng, agon_str("gates"));
    struct agon_gate_input in = {
        .rt = run->rt,
        .task = &task,
        .below = agon_stage_below(run),
        .others = others,
        .n_others = n_others,
        .wrong = json_object_get(arguments, "wrong"),
        .rng = agon_rng_split_int(&rng, (uint64_t)run->proposals),
    };
    r = agon_gates(&in, &report, err);
    free(others);
    if (r < 0)
        return agon_err_in(err, r, "proposal %d", run->proposals);
    return r ? task_refused(run, &report, result, err)
             : task_accepted(run, &task, &report, result, err);
}
