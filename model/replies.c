/* See replies.h. A choice waits, runs and ends; those that wait do so in their order. */
#include "model/replies.h"

#include "base/rng.h"
#include "model/engine.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEPT_MAX = 64,   /* sequences that ended and are kept for their cache */
    ROOM_MIN = 2048, /* positions: a step's rows and a page for each of a batch */
    TEXT_BYTES_MAX = 16 << 20,
    SHARE_MIN = 32, /* two pages: sharing less is not worth a search */
};

enum choice_state { CHOICE_WAITS, CHOICE_RUNS, CHOICE_ENDED };

struct choice {
    enum choice_state state;
    bool preempted;
    struct agon_sequence *sequence; /* owned */
    struct agon_buf text;           /* owned */
    int n_read;                     /* ids that are in text */
    struct agon_trace *trace;       /* owned: made when the cache was given back; or NULL */
    struct agon_choice view;        /* end, reason, stop, n_shown */
};

struct agon_reply {
    struct agon_replies *owner;
    struct agon_reply *previous, *next;
    int *ids;
    int n_ids, n_cached, n_choices, n_running;
    struct choice *choices;
    struct agon_generation generation; /* of choice 0; others have other seeds */
    unsigned record;
    char *stop[AGON_STOPS_MAX]; /* owned */
    int n_stop;
};

struct agon_replies {
    struct agon_model *model;
    struct agon_engine *engine;
    const struct agon_tokenizer *tokenizer;
    struct agon_reply *first, *last;
    struct agon_sequence *kept[KEPT_MAX]; /* oldest first */
    int n_kept;
    struct agon_replies_stats sums;
};

int agon_replies_new(struct agon_replies **ret, struct agon_model *m, struct agon_err *err)
{
    struct agon_replies *c = calloc(1, sizeof(*c));
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "completions: out of memory");
    c->model = m;
    c->engine = agon_local_engine(m);
    c->tokenizer = agon_local_tokenizer(m);
    *ret = c;
    return 0;
}

/* ---- sequences that are kept -------------------------------------------------------- */

static void kept_drop(struct agon_replies *c, int i)
{
    agon_sequence_free(c->kept[i]);
    memmove(c->kept + i, c->kept + i + 1, (size_t)(c->n_kept - i - 1) * sizeof(*c->kept));
    c->n_kept--;
}

static void kept_add(struct agon_replies *c, struct agon_sequence *s)
{
    if (c->n_kept == KEPT_MAX)
        kept_drop(c, 0);
    c->kept[c->n_kept++] = s;
}

/* One that ended gives its cache back; what its pages have recorded is read before. */
static void ended_release(const struct agon_reply *j, struct choice *o)
{
    struct agon_err err;
    bool in_pages = j->record & (AGON_TRACE_ROUTING | AGON_TRACE_INDEXER);
    if (o->state != CHOICE_ENDED || !o->sequence || agon_sequence_computed(o->sequence) == 0)
        return;
    if (in_pages && o->n_read > 0 && !o->trace &&
        agon_trace_new(&o->trace, o->sequence, j->n_ids, j->record, &err))
        return; /* no memory: the record is worth more */
    agon_sequence_forget(o->sequence);
}

/* Nobody needs the cache of what is kept, nor of those that ended while others of their completion,
 * or their reader, take their time. */
static void make_room(struct agon_replies *c)
{
    while (c->n_kept > 0 && agon_engine_room(c->engine) < ROOM_MIN)
        kept_drop(c, 0);
    for (struct agon_reply *j = c->first; j && agon_engine_room(c->engine) < ROOM_MIN; j = j->next)
        for (int i = 0; i < j->n_choices; i++)
            ended_release(j, &j->choices[i]);
}

static int common(const struct agon_sequence *s, const int *ids, int n)
{
    const int *theirs = agon_sequence_ids(s);
    int n_computed = agon_sequence_computed(s), i = 0;
    while (i < n && i < n_computed && theirs[i] == ids[i])
        i++;
    return i;
}

static void best_beginning(struct agon_sequence *s, const struct agon_reply *j,
                           struct agon_sequence **best, int *n_best)
{
    int n = s ? common(s, j->ids, j->n_ids) : 0;
    if (n > *n_best) {
        *n_best = n;
        *best = s;
    }
}

/* Take over the cache of what begins most like the prompt: another choice, or what was kept. */
static int share_beginning(struct agon_reply *j, struct agon_sequence *s, struct agon_err *err)
{
    const struct agon_replies *c = j->owner;
    struct agon_sequence *best = NULL;
    int n_best = SHARE_MIN - 1;
    for (int i = c->n_kept; i-- > 0;)
        best_beginning(c->kept[i], j, &best, &n_best);
    for (const struct agon_reply *o = c->first; o; o = o->next)
        for (int i = 0; i < o->n_choices && i < 1 + (o == j) * o->n_choices; i++)
            best_beginning(o->choices[i].sequence == s ? NULL : o->choices[i].sequence, j, &best,
                           &n_best);
    return best ? agon_sequence_share(s, best, n_best, err) : 0;
}

/* ---- one choice --------------------------------------------------------------------- */

static void choice_end(struct agon_reply *j, struct choice *o, enum agon_choice_end end,
                       const char *reason)
{
    if (o->state == CHOICE_RUNS)
        j->n_running--;
    if (o->sequence && agon_sequence_state(o->sequence) == AGON_SEQUENCE_GENERATING)
        agon_sequence_cancel(o->sequence);
    o->state = CHOICE_ENDED;
    o->view.end = end;
    o->view.reason = reason;
    o->view.n_shown = o->text.size;
}

static uint64_t choice_seed(const struct agon_reply *j, int i)
{
    struct agon_rng root, at;
    if (i == 0)
        return j->generation.seed;
    agon_rng_init(&root, j->generation.seed);
    at = agon_rng_split_int(&root, (uint64_t)i);
    return agon_rng_u64(&at);
}

static int choice_start(struct agon_reply *j, int i, struct agon_err *err)
{
    struct choice *o = &j->choices[i];
    struct agon_generation generation = j->generation;
    int r = agon_sequence_new(&o->sequence, j->owner->engine, err);
    if (r || (r = share_beginning(j, o->sequence, err)))
        return r;
    int n = agon_sequence_length(o->sequence);
    if (i == 0)
        j->n_cached = n;
    j->owner->sums.n_prompt += (uint64_t)j->n_ids;
    j->owner->sums.n_prompt_cached += (uint64_t)n;
    generation.seed = choice_seed(j, i);
    if ((r = agon_sequence_append(o->sequence, j->ids + n, j->n_ids - n, err)))
        return r;
    return agon_sequence_generate(o->sequence, &generation, err);
}

/* May it begin now? Those behind the first wait until the prompt is computed once; who was
 * preempted, until there is room again. */
static bool choice_ready(const struct agon_reply *j, int i)
{
    const struct choice *o = &j->choices[i], *first = &j->choices[0];
    const struct agon_replies *c = j->owner;
    if (o->preempted)
        return agon_engine_generating(c->engine) == 0 ||
               agon_engine_room(c->engine) > (size_t)agon_sequence_length(o->sequence) + ROOM_MIN;
    return i == 0 || first->state == CHOICE_ENDED ||
           (first->sequence && agon_sequence_computed(first->sequence) >= j->n_ids);
}

static void choice_begin(struct agon_reply *j, int i)
{
    struct choice *o = &j->choices[i];
    struct agon_err err = {0};
    o->state = CHOICE_RUNS;
    j->n_running++;
    if (o->preempted)
        agon_sequence_resume(o->sequence);
    else if (choice_start(j, i, &err)) /* ids and window were checked: no memory */
        choice_end(j, o, AGON_CHOICE_FAILED, "out of memory");
    o->preempted = false;
}

/* ---- text --------------------------------------------------------------------------- */

/* Where a stop text begins in what is new, or -1. */
static ptrdiff_t find_stop(const struct agon_reply *j, struct choice *o, size_t old_size)
{
    ptrdiff_t found = -1;
    for (int i = 0; i < j->n_stop; i++) {
        size_t size = strlen(j->stop[i]);
        size_t from = old_size >= size ? old_size - size + 1 : 0;
        const char *at = o->text.size < size + from
                             ? NULL
                             : memmem(o->text.data + from, o->text.size - from, j->stop[i], size);
        if (at && (found < 0 || at - o->text.data < found)) {
            found = at - o->text.data;
            o->view.stop = j->stop[i];
        }
    }
    return found;
}

static bool could_become_stop(const struct agon_reply *j, const char *tail, size_t size)
{
    for (int i = 0; i < j->n_stop; i++)
        if (size < strlen(j->stop[i]) && memcmp(j->stop[i], tail, size) == 0)
            return true;
    return false;
}

/* How much of an unfinished text nothing that follows can take back. */
static size_t text_shown(const struct agon_reply *j, const struct agon_buf *text)
{
    size_t size = text->size, from = size < AGON_STOP_BYTES_MAX ? 0 : size - AGON_STOP_BYTES_MAX;
    for (size_t at = from; j->n_stop > 0 && at < size; at++)
        if (could_become_stop(j, text->data + at, size - at)) {
            size = at;
            break;
        }
    /* Not half a character: back to a lead byte that asks for more than there is. */
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char lead = (unsigned char)text->data[size - back];
        size_t wants = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
        if (lead >= 0x80 && lead < 0xc0)
            continue;
        return wants > back ? size - back : size;
    }
    return size;
}

static bool is_stop_id(const struct agon_reply *j, int id)
{
    for (int i = 0; i < j->generation.n_stop; i++)
        if (j->generation.stop[i] == id)
            return true;
    return false;
}

/* Take up the ids drawn since; true where a stop text ended it. */
static bool choice_read(struct agon_reply *j, struct choice *o)
{
    int n_drawn;
    (void)agon_sequence_drawn(o->sequence, &n_drawn);
    const int *ids = agon_sequence_ids(o->sequence) + j->n_ids;
    for (; o->n_read < n_drawn; o->n_read++) {
        size_t old_size = o->text.size;
        int id = ids[o->n_read];
        j->owner->sums.n_generated++;
        if (is_stop_id(j, id)) {
            o->view.stopped_at_id = true;
            continue;
        }
        agon_buf_add_str(&o->text, agon_tokenizer_text(j->owner->tokenizer, id));
        ptrdiff_t at = find_stop(j, o, old_size);
        if (at >= 0) {
            o->text.size = (size_t)at;
            o->text.data[at] = '\0';
            o->n_read++;
            return true;
        }
    }
    o->view.n_shown = text_shown(j, &o->text);
    return false;
}

static void choice_after_step(struct agon_reply *j, struct choice *o)
{
    struct agon_replies *c = j->owner;
    if (choice_read(j, o)) {
        choice_end(j, o, AGON_CHOICE_STOP, NULL);
        return;
    }
    if (o->text.failed) {
        choice_end(j, o, AGON_CHOICE_FAILED, "the text is too long, or out of memory");
        return;
    }
    switch (agon_sequence_state(o->sequence)) {
    case AGON_SEQUENCE_GENERATING: break;
    case AGON_SEQUENCE_STOPPED: choice_end(j, o, AGON_CHOICE_STOP, NULL); break;
    case AGON_SEQUENCE_LENGTH: choice_end(j, o, AGON_CHOICE_LENGTH, NULL); break;
    case AGON_SEQUENCE_CACHE: agon_sequence_forget(o->sequence); break; /* choice_preempt() */
    case AGON_SEQUENCE_NAN:
        choice_end(j, o, AGON_CHOICE_FAILED, "the model's logits are no numbers");
        break;
    case AGON_SEQUENCE_FAILED:
        choice_end(j, o, AGON_CHOICE_FAILED, agon_engine_failure(c->engine));
        break;
    case AGON_SEQUENCE_MEMORY:
    case AGON_SEQUENCE_IDLE: choice_end(j, o, AGON_CHOICE_FAILED, "out of memory"); break;
    }
}

/* After everybody who found no room has given back what they had: wait until there is some. Who
 * does not fit into an empty cache never will. */
static void choice_preempt(struct agon_reply *j, struct choice *o)
{
    struct agon_replies *c = j->owner;
    if (agon_engine_generating(c->engine) == 0 &&
        agon_engine_room(c->engine) <= (size_t)agon_sequence_length(o->sequence)) {
        choice_end(j, o, AGON_CHOICE_FAILED, "the cache is too small for it");
        return;
    }
    o->preempted = true;
    o->state = CHOICE_WAITS;
    j->n_running--;
    c->sums.n_preempted++;
}

static void replies_preempt(struct agon_replies *c)
{
    make_room(c);
    for (struct agon_reply *j = c->first; j; j = j->next)
        for (int i = 0; i < j->n_choices; i++)
            if (j->choices[i].state == CHOICE_RUNS &&
                agon_sequence_state(j->choices[i].sequence) == AGON_SEQUENCE_CACHE)
                choice_preempt(j, &j->choices[i]);
}

/* ---- all of them -------------------------------------------------------------------- */

int agon_replies_step(struct agon_replies *c)
{
    int n = 0;
    make_room(c);
    for (struct agon_reply *j = c->first; j; j = j->next)
        for (int i = 0; i < j->n_choices; i++)
            if (j->choices[i].state == CHOICE_WAITS && choice_ready(j, i))
                choice_begin(j, i);
    if (agon_engine_generating(c->engine) > 0) {
        (void)agon_engine_step(c->engine);
        c->sums.n_steps++;
    }
    for (struct agon_reply *j = c->first; j; j = j->next)
        for (int i = 0; i < j->n_choices; i++)
            if (j->choices[i].state == CHOICE_RUNS)
                choice_after_step(j, &j->choices[i]);
    replies_preempt(c);
    for (const struct agon_reply *j = c->first; j; j = j->next)
        for (int i = 0; i < j->n_choices; i++)
            n += j->choices[i].state != CHOICE_ENDED;
    return n;
}

int agon_replies_load(struct agon_replies *c, const char *dir, struct agon_err *err)
{
    for (const struct agon_reply *j = c->first; j; j = j->next)
        if (!agon_reply_done(j))
            return agon_fail(err, AGON_EINPUT, "weights can't be replaced while a choice runs");
    int r = agon_model_load(c->model, dir, err);
    while (r == 0 && c->n_kept > 0)
        kept_drop(c, 0);
    return r;
}

void agon_replies_stats(const struct agon_replies *c, struct agon_replies_stats *ret)
{
    *ret = c->sums;
    for (const struct agon_reply *j = c->first; j; j = j->next)
        for (int i = 0; i < j->n_choices; i++) {
            ret->n_running += j->choices[i].state == CHOICE_RUNS;
            ret->n_waiting += j->choices[i].state == CHOICE_WAITS;
        }
    ret->room = agon_engine_room(c->engine);
}

void agon_replies_free(struct agon_replies *c)
{
    if (!c)
        return;
    while (c->n_kept > 0)
        kept_drop(c, c->n_kept - 1);
    free(c);
}

/* ---- completions -------------------------------------------------------------------- */

static int completion_check(const struct agon_replies *c, const struct agon_reply_options *o,
                            struct agon_err *err)
{
    int window = agon_model_window(c->model), n_vocab = agon_tokenizer_size(c->tokenizer);
    if (o->n < 1 || o->n > AGON_CHOICES_MAX)
        return agon_fail(err, AGON_EINPUT, "n: %d is not from 1 to %d", o->n, AGON_CHOICES_MAX);
    if (o->n_ids < 1)
        return agon_fail(err, AGON_EINPUT, "the prompt is empty");
    if (o->n_ids >= window)
        return agon_fail(err, AGON_EINPUT,
                         "This model's maximum context length is %d tokens, but the prompt has %d",
                         window, o->n_ids);
    for (int i = 0; i < o->n_ids; i++)
        if (o->ids[i] < 0 || o->ids[i] >= n_vocab)
            return agon_fail(err, AGON_EINPUT, "prompt: token id %d is not from 0 to %d", o->ids[i],
                             n_vocab - 1);
    return agon_local_records(c->model, o->record, err);
}

static int completion_fill(struct agon_reply *j, const struct agon_reply_options *o,
                           struct agon_err *err)
{
    int left = agon_model_window(j->owner->model) - o->n_ids;
    j->ids = malloc((size_t)o->n_ids * sizeof(*j->ids));
    j->choices = calloc((size_t)o->n, sizeof(*j->choices));
    if (!j->ids || !j->choices)
        return agon_fail(err, AGON_ENOMEM, "completion: out of memory");
    memcpy(j->ids, o->ids, (size_t)o->n_ids * sizeof(*j->ids));
    j->n_ids = o->n_ids;
    j->n_choices = o->n;
    j->record = o->record;
    for (int i = 0; i < o->n; i++)
        j->choices[i].text.size_max = TEXT_BYTES_MAX;
    for (; j->n_stop < o->n_stop; j->n_stop++)
        if (!(j->stop[j->n_stop] = strdup(o->stop[j->n_stop])))
            return agon_fail(err, AGON_ENOMEM, "completion: out of memory");
    j->generation = (struct agon_generation){
        .sample = o->sample,
        .seed = o->seed,
        .tokens_max = o->tokens_max > 0 && o->tokens_max < left ? o->tokens_max : left,
        .n_ids = agon_tokenizer_size(j->owner->tokenizer),
        .record = o->record,
        .n_top = o->n_top};
    if (!o->ignore_eos)
        j->generation.stop = agon_local_stop(j->owner->model, &j->generation.n_stop);
    return 0;
}

int agon_reply_new(struct agon_reply **ret, struct agon_replies *c,
                   const struct agon_reply_options *options, struct agon_err *err)
{
    int r = completion_check(c, options, err);
    if (r)
        return r;
    struct agon_reply *j = calloc(1, sizeof(*j));
    if (!j)
        return agon_fail(err, AGON_ENOMEM, "completion: out of memory");
    j->owner = c;
    j->previous = c->last;
    *(c->last ? &c->last->next : &c->first) = j;
    c->last = j;
    if ((r = completion_fill(j, options, err))) {
        agon_reply_free(j);
        return r;
    }
    *ret = j;
    return 0;
}

void agon_reply_free(struct agon_reply *j)
{
    if (!j)
        return;
    struct agon_replies *c = j->owner;
    *(j->previous ? &j->previous->next : &c->first) = j->next;
    *(j->next ? &j->next->previous : &c->last) = j->previous;
    for (int i = 0; j->choices && i < j->n_choices; i++) {
        struct choice *o = &j->choices[i];
        if (o->sequence && agon_sequence_state(o->sequence) == AGON_SEQUENCE_GENERATING)
            agon_sequence_cancel(o->sequence);
        if (o->sequence)
            kept_add(c, o->sequence);
        agon_trace_free(o->trace);
        agon_buf_deinit(&o->text);
    }
    for (int i = 0; i < j->n_stop; i++)
        free(j->stop[i]);
    free(j->choices);
    free(j->ids);
    free(j);
}

int agon_reply_choices(const struct agon_reply *j)
{
    return j->n_choices;
}

bool agon_reply_done(const struct agon_reply *j)
{
    for (int i = 0; i < j->n_choices; i++)
        if (j->choices[i].state != CHOICE_ENDED)
            return false;
    return true;
}

struct agon_choice agon_reply_choice(const struct agon_reply *j, int i)
{
    const struct choice *o = &j->choices[i];
    struct agon_choice view = o->view;
    int n_drawn;
    view.text = agon_buf_str(&o->text);
    view.n = o->n_read;
    if (o->sequence) {
        view.ids = agon_sequence_ids(o->sequence) + j->n_ids;
        view.drawn = agon_sequence_drawn(o->sequence, &n_drawn);
    }
    return view;
}

int agon_reply_prompt(const struct agon_reply *j, int *ret_n_cached)
{
    *ret_n_cached = j->n_cached;
    return j->n_ids;
}

const struct agon_top *agon_reply_top(const struct agon_reply *j, int i, int k)
{
    return agon_sequence_top(j->choices[i].sequence, k);
}

int agon_reply_trace(const struct agon_reply *j, int i, struct agon_trace **ret,
                     struct agon_err *err)
{
    struct choice *o = &j->choices[i];
    if (o->state != CHOICE_ENDED || !o->sequence || o->n_read == 0)
        return agon_fail(err, AGON_EINPUT, "completion: nothing was drawn");
    if (o->trace) {
        *ret = AGON_STEAL(o->trace);
        return 0;
    }
    return agon_trace_new(ret, o->sequence, j->n_ids, j->record, err);
}
