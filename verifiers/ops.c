/* Trials inside a cell: see trial.h for what they are, trial_wire.h for the messages. */
#include "verifiers/ops.h"

#include "base/json.h"
#include "envs/cell_state.h"
#include "envs/solution.h"
#include "verifiers/episodes_cell.h"
#include "verifiers/trial_wire.h"
#include "verifiers/verifier.h"
#include "verifiers/verifier_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* For all checks of a trial: some 10 s. 10,000 answers may spend 100,000 each. */
static const int64_t TRIAL_FUEL_MAX = 1000000000;
enum { COLUMNS_MAX = 1000, OVERRIDES_MAX = 100 };

struct trial {
    struct agon_env_cell *cell;
    struct agon_wire in;
    struct agon_buf *out;
    json_t *schema;                 /* owned or NULL */
    struct agon_verifier *verifier; /* borrowed from the cell, or NULL */
    bool full, small_cache;
    json_t *texts;  /* owned: that the verifier holds; NULL: nobody asks */
    int failed_max; /* of the items */
    int64_t fuel;   /* spent by checks */
};

static void verifier_release(void *verifier)
{
    agon_verifier_free(verifier);
}

int verifier_at_hand(struct agon_env_cell *cell, struct agon_str text, struct agon_verifier **ret,
                     struct agon_err *err)
{
    if (!cell->verifier || !agon_verifier_is(cell->verifier, text)) {
        agon_verifier_free(cell->verifier);
        cell->verifier = NULL;
        struct agon_verifier *v = NULL;
        int r = agon_verifier_load(&v, cell->world, text, err);
        if (r)
            return r;
        cell->verifier = v;
        cell->verifier_free = verifier_release;
    }
    *ret = cell->verifier;
    return 0;
}

/* ---- verdicts ---- */

void verifier_add_brief(struct agon_buf *out, const struct agon_judgement *j)
{
    int64_t flags = (j->pass ? TRIAL_PASS : 0) | (j->schema ? TRIAL_SCHEMA : 0) |
                    (j->replay ? TRIAL_REPLAY : 0) | (j->unclaimed ? TRIAL_UNCLAIMED : 0);
    agon_wire_add_int(out, flags);
    agon_wire_add_int(out, (int64_t)j->failed);
    agon_wire_add_int(out, (int64_t)j->changes);
    agon_session_add_usage(&j->usage, out);
}

static void add_verdict(struct trial *t, const struct agon_judgement *j, bool full)
{
    verifier_add_brief(t->out, j);
    if (!full)
        return;
    agon_wire_add_text(t->out, j->why);
    for (int i = 0; i < agon_verifier_count(t->verifier); i++) {
        bool failed = j->failed >> i & 1, raised = j->raised >> i & 1;
        agon_wire_add_int(t->out, raised ? 2 : failed);
        agon_wire_add_text(t->out, j->reasons[i]);
        agon_wire_add_int(t->out, j->costs[i].fuel);
        agon_wire_add_int(t->out, j->costs[i].ops);
    }
}

/* Judge on the world as it stands. */
static int trial_judge(struct trial *t, struct agon_str answer, bool full, int failed_max,
                       struct agon_err *err)
{
    struct agon_judgement j AGON_AUTO(agon_judgement_deinit) = {.texts = t->texts};
    int r = agon_world_set_query_only(t->cell->world, true, err);
    agon_world_set_run_ops(t->cell->world, 0); /* what the tools spent is not the verifier's */
    if (!r)
        r = agon_verifier_run(t->verifier, t->schema, answer, full, failed_max, &j, err);
    t->fuel += j.usage.fuel;
    if (!r)
        add_verdict(t, &j, full);
    return r;
}

static int trial_item(struct trial *t, struct agon_err *err)
{
    struct agon_str answer = agon_wire_str(&t->in);
    struct agon_wire peek = t->in;
    int n_writes = agon_wire_count(&peek), r = 0;
    agon_worker_beat();
    if (n_writes || t->cell->n_writes) {
        r = agon_world_set_query_only(t->cell->world, false, err);
        if (!r)
            r = agon_session_replay(t->cell, &t->in, err);
    } else {
        t->in = peek;
    }
    if (r == AGON_SESSION_ERROR) {
        struct agon_judgement j = {.replay = true};
        snprintf(j.why, sizeof(j.why), "%.255s", err->text);
        add_verdict(t, &j, t->full);
        for (int i = 0; i < n_writes; i++) { /* past the writes that were not read */
            (void)agon_wire_str(&peek);
            (void)agon_wire_str(&peek);
        }
        t->in = peek;
        return agon_session_reset(t->cell, err);
    }
    return r ? r : trial_judge(t, answer, t->full, t->failed_max, err);
}

/* ---- the parts of a trial, in their order ---- */

static int trial_perturb(struct trial *t, struct agon_err *err)
{
    struct agon_str columns[COLUMNS_MAX];
    if (!agon_wire_int(&t->in))
        return 0;
    uint64_t seed = (uint64_t)agon_wire_int(&t->in);
    int draw = (int)agon_wire_int(&t->in), n = agon_wire_count(&t->in);
    if (n > COLUMNS_MAX)
        return agon_fail(err, AGON_EINPUT, "trial: over %d columns", COLUMNS_MAX);
    for (int i = 0; i < n; i++)
        columns[i] = agon_wire_str(&t->in);
    return t->in.bad ? 0 : agon_world_perturb(t->cell->world, seed, draw, columns, n, err);
}

static void overrides_free(struct agon_env_cell *cell)
{
    for (int i = 0; i < cell->n_overrides; i++) {
        free(cell->overrides[i].tool);
        free(cell->overrides[i].arguments);
        free(cell->overrides[i].result);
    }
    free(cell->overrides);
    cell->overrides = NULL;
    cell->n_overrides = 0;
}

static char *copy_str(struct agon_str s)
{
    return strndup(s.data, s.size);
}

static int trial_overrides(struct trial *t, struct agon_err *err)
{
    struct agon_env_cell *cell = t->cell;
    int n = agon_wire_count(&t->in);
    if (n > OVERRIDES_MAX)
        return agon_fail(err, AGON_EINPUT, "trial: over %d overrides", OVERRIDES_MAX);
    cell->overrides = calloc((size_t)n + 1, sizeof(*cell->overrides));
    for (int i = 0; cell->overrides && i < n; i++) {
        struct agon_override *o = &cell->overrides[cell->n_overrides++];
        o->tool = copy_str(agon_wire_str(&t->in));
        o->arguments = copy_str(agon_wire_str(&t->in));
        o->result = copy_str(agon_wire_str(&t->in));
        if (!o->tool || !o->arguments || !o->result)
            return agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    }
    return cell->overrides ? 0 : agon_fail(err, AGON_ENOMEM, "trial: out of memory");
}

static int trial_probes(struct trial *t, struct agon_buf *probes, struct agon_err *err)
{
    int n = agon_wire_count(&t->in);
    agon_wire_add_int(probes, n);
    for (int i = 0; i < n; i++) {
        struct agon_str tool = agon_wire_str(&t->in), arguments = agon_wire_str(&t->in);
        int r = agon_session_reset(t->cell, err);
        if (!r)
            r = agon_session_call(t->cell, tool, arguments, err);
        if (r < 0)
            return r;
        agon_wire_add_int(probes, r);
        agon_wire_add_str(probes, agon_buf_str(&t->cell->result));
    }
    return 0;
}

/* 1 where the solution does not load. */
static int trial_solve(struct trial *t, struct agon_str solution, struct agon_err *err)
{
    if (solution.size == 0) {
        agon_wire_add_int(t->out, -1);
        return 0;
    }
    int r = agon_session_reset(t->cell, err);
    if (r)
        return r;
    agon_world_forget_reads(t->cell->world);
    struct agon_solve_result result AGON_AUTO(agon_solve_result_deinit) = {0};
    r = agon_solution_run(t->cell->solution, solution, t->schema, &result, err);
    if (r < 0 || r == AGON_SOLVE_NO_LOAD)
        return r < 0 ? r : 1;
    bool judged = r == AGON_SOLVE_OK && t->verifier;
    agon_wire_add_int(t->out, r == AGON_SOLVE_OK ? 0 : 1);
    agon_wire_add_text(t->out, r == AGON_SOLVE_OK ? "" : err->text);
    agon_wire_add_str(t->out, agon_buf_str(&result.answer));
    agon_wire_add_str(t->out, agon_buf_str(&result.calls));
    agon_session_add_writes(t->cell, t->out);
    agon_session_add_reads(t->cell, t->out);
    agon_session_add_usage(&result.usage, t->out);
    agon_wire_add_int(t->out, judged);
    return judged ? trial_judge(t, agon_buf_str(&result.answer), true, 0, err) : 0;
}

static int trial_items(struct trial *t, struct agon_err *err)
{
    t->failed_max = (int)agon_wire_int(&t->in);
    int n = agon_wire_count(&t->in), r = 0;
    agon_wire_add_int(t->out, t->verifier ? n : 0);
    for (int i = 0; i < n && t->verifier && !r; i++) {
        r = trial_item(t, err);
        if (!r && t->fuel > TRIAL_FUEL_MAX) {
            agon_fail(err, 1, "verifier: its checks are too slow: %lld fuel for each of %d answers",
                      (long long)(t->fuel / (i + 1)), n);
            return 1;
        }
    }
    return r;
}

/* ---- the verifier's texts ---- */

static int compare_texts(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Texts of a verifier that does nothing are the library's. */
static int texts_of_nothing(struct trial *t, struct agon_err *err)
{
    struct agon_verifier *v AGON_AUTO(agon_verifier_freep) = NULL;
    json_auto_t *texts = json_object();
    struct agon_judgement j AGON_AUTO(agon_judgement_deinit) = {.texts = texts};
    int r = texts ? agon_verifier_load(
                        &v, t->cell->world,
                        agon_str("check{ name = 'n', text = 't', run = function() end }"), err)
                  : agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    if (!r)
        r = agon_verifier_run(v, NULL, agon_str("null"), false, 0, &j, err);
    const char *text;
    json_t *loaded;
    json_object_foreach(texts, text, loaded) json_object_del(t->texts, text);
    return r;
}

/* n texts, how many of them were there at first, and they: both kinds sorted; then what was read.
 */
static int trial_texts(struct trial *t, struct agon_err *err)
{
    int r = texts_of_nothing(t, err);
    size_t n = json_object_size(t->texts), n_loaded = 0, n_made = 0;
    const char **list = calloc(n + 1, sizeof(*list)), *text;
    json_t *loaded;
    if (r || !list) {
        free(list);
        return r ? r : agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    }
    json_object_foreach(t->texts, text, loaded)
        list[json_is_true(loaded) ? n_loaded++ : n - ++n_made] = text;
    qsort(list, n_loaded, sizeof(*list), compare_texts);
    qsort(list + n_loaded, n_made, sizeof(*list), compare_texts);
    agon_wire_add_int(t->out, (int64_t)n);
    agon_wire_add_int(t->out, (int64_t)n_loaded);
    for (size_t i = 0; i < n; i++)
        agon_wire_add_text(t->out, list[i]);
    free(list);
    agon_session_add_reads(t->cell, t->out);
    return 0;
}

static void trial_describe(struct trial *t)
{
    int n = t->verifier ? agon_verifier_count(t->verifier) : 0;
    agon_wire_add_int(t->out, n);
    for (int i = 0; i < n; i++) {
        agon_wire_add_text(t->out, agon_verifier_name(t->verifier, i));
        agon_wire_add_text(t->out, agon_verifier_text(t->verifier, i));
    }
}

/* All of it; 1 with a sentence in err is a rejection. */
static int trial_run(struct trial *t, struct agon_err *err)
{
    struct agon_buf probes AGON_AUTO(agon_buf_deinit) = AGON_BUF(32 << 20);
    int r = agon_session_reset(t->cell, err);
    if (!r)
        r = trial_perturb(t, err);
    if (!r)
        r = agon_world_set_reverse(t->cell->world, agon_wire_int(&t->in) != 0, err);
    int64_t cache_kib = agon_wire_int(&t->in);
    if (!r && cache_kib > 0)
        r = agon_world_set_cache(t->cell->world, (int)cache_kib, err);
    t->small_cache = cache_kib > 0;
    int64_t wanted = agon_wire_int(&t->in);
    t->full = wanted & TRIAL_FULL;
    if (wanted & TRIAL_TEXTS && !(t->texts = json_object()))
        return agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    struct agon_str schema = agon_wire_str(&t->in), verifier = agon_wire_str(&t->in);
    struct agon_str solution = agon_wire_str(&t->in);
    if (!r && schema.size)
        r = agon_json_parse(&t->schema, schema, err);
    if (!r && verifier.size)
        r = verifier_at_hand(t->cell, verifier, &t->verifier, err);
    if (!r)
        r = trial_overrides(t, err);
    if (!r)
        r = trial_probes(t, &probes, err);
    if (r)
        return r;
    trial_describe(t);
    r = trial_solve(t, solution, err);
    agon_buf_add_str(t->out, agon_buf_str(&probes));
    if (!r)
        r = agon_buf_check(&probes, "probes", err);
    overrides_free(t->cell); /* they are for the solution alone */
    if (t->texts)
        agon_world_note_checks(t->cell->world, true);
    if (!r)
        r = trial_items(t, err);
    if (!r && t->texts)
        r = trial_texts(t, err);
    return r ? r : t->verifier ? agon_wire_end(&t->in, "verify.trial", err) : 0;
}

static void trial_deinit(struct trial *t)
{
    overrides_free(t->cell);
    json_decref(t->schema);
    json_decref(t->texts);
}

/* The world as it was, for the next request. */
static int trial_end(struct trial *t, struct agon_err *err)
{
    int r = agon_world_set_query_only(t->cell->world, false, err);
    agon_world_note_checks(t->cell->world, false);
    if (!r)
        r = agon_world_set_reverse(t->cell->world, false, err);
    if (!r && t->small_cache)
        r = agon_world_set_cache(t->cell->world, 0, err);
    if (!r)
        r = agon_world_perturb(t->cell->world, 0, 0, NULL, 0, err);
    return r ? r : agon_session_reset(t->cell, err);
}

static int op_trial(void *state, struct agon_str request, struct agon_buf *reply,
                    struct agon_err *err)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct trial t = {.cell = state, .in = agon_wire_of(request), .out = &out};
    if (!t.cell->world)
        return agon_fail(err, AGON_EINPUT, "no environment is open");
    int r = trial_run(&t, err);
    trial_deinit(&t);
    if (r < 0)
        return r;
    agon_wire_add_int(reply, r ? 1 : 0);
    agon_wire_add_text(reply, r ? err->text : "");
    if (!r)
        agon_buf_add_str(reply, agon_buf_str(&out));
    r = agon_buf_check(&out, "verify.trial", err);
    return r ? r : trial_end(&t, err);
}

const struct agon_worker_op agon_verifier_ops[] = {
    {"verify.trial", op_trial}, {"verify.episodes", verifier_op_episodes}, {NULL, NULL}};
