#pragma once
/*
 * Completions of id lists by a local model, many at once: what a server and a trainer's process
 * are made of. A completion has one prompt and n choices that share its cache. It goes on with
 * every agon_replies_step(), beside all others (continuous batching), and its choices can be
 * read at any time. Sequences that ended are kept for a while, so that a prompt that begins with
 * what was said before is not computed again.
 *
 * Where the cache is full, the youngest waits and is computed again later: it draws the same.
 * Everything borrows the model, and one thread uses it. Choice i of a seed draws the same whatever
 * n is and whatever else runs.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "model/local.h"

struct agon_replies;
struct agon_reply;

int agon_replies_new(struct agon_replies **ret, struct agon_model *m,
                     struct agon_err *err) AGON_MUST_USE;
void agon_replies_free(struct agon_replies *c); /* every completion ended before */
AGON_DEFINE_FREEP(struct agon_replies, agon_replies_free)
/* One forward pass for all. Returns how many choices are under way still. */
int agon_replies_step(struct agon_replies *c);
/* agon_model_load(); AGON_EINPUT while a choice is under way. */
int agon_replies_load(struct agon_replies *c, const char *dir, struct agon_err *err) AGON_MUST_USE;

/* For metrics; sums since the beginning but for the first two. */
struct agon_replies_stats {
    int n_running, n_waiting;                                 /* choices */
    uint64_t n_prompt, n_prompt_cached, n_generated, n_steps; /* ids; ids taken from the cache */
    uint64_t n_preempted;
    size_t room; /* positions that the cache has left */
};
void agon_replies_stats(const struct agon_replies *c, struct agon_replies_stats *ret);

enum { AGON_CHOICES_MAX = 1024, AGON_STOPS_MAX = 16, AGON_STOP_BYTES_MAX = 1024 };
struct agon_reply_options {
    const int *ids; /* the prompt: at least one; copied */
    int n_ids;
    int n; /* choices */
    struct agon_sample_options sample;
    uint64_t seed;
    int tokens_max;                   /* 0: what the window has left */
    int n_top;                        /* likeliest ids to keep of each id drawn */
    unsigned record;                  /* AGON_TRACE_* */
    bool ignore_eos;                  /* only tokens_max and stop texts end it */
    const char *stop[AGON_STOPS_MAX]; /* texts that end it and are cut off; copied */
    int n_stop;
};
/* AGON_EINPUT: the prompt is empty or too long for the window, an id is out of range, or what is
 * to be recorded is not kept by this model. */
int agon_reply_new(struct agon_reply **ret, struct agon_replies *c,
                   const struct agon_reply_options *options, struct agon_err *err) AGON_MUST_USE;
void agon_reply_free(struct agon_reply *j); /* cancels what is under way */
AGON_DEFINE_FREEP(struct agon_reply, agon_reply_free)

enum agon_choice_end {
    AGON_CHOICE_RUNNING,
    AGON_CHOICE_STOP,   /* at a stop id or a stop text */
    AGON_CHOICE_LENGTH, /* tokens_max or the window */
    AGON_CHOICE_FAILED, /* reason */
};
struct agon_choice {
    enum agon_choice_end end;
    const char *reason; /* FAILED; static */
    const char *stop;   /* the stop text that ended it, or NULL */
    bool stopped_at_id; /* the last of ids is a stop id (its text is not in text) */
    const int *ids;     /* drawn so far; borrowed, until the next step */
    const struct agon_drawn *drawn;
    int n;
    struct agon_str text; /* of ids, without stop; what can still become a stop text or
                             is half a character stands behind n_shown */
    size_t n_shown;
};
int agon_reply_choices(const struct agon_reply *j); /* n */
bool agon_reply_done(const struct agon_reply *j);
struct agon_choice agon_reply_choice(const struct agon_reply *j, int i);
int agon_reply_prompt(const struct agon_reply *j, int *ret_n_cached); /* ids of it */
/* The likeliest at draw k of choice i: [n_top]. */
const struct agon_top *agon_reply_top(const struct agon_reply *j, int i, int k);
/* What options.record asked for, to be asked for once; the choice has ended, and has drawn an id.
 */
int agon_reply_trace(const struct agon_reply *j, int i, struct agon_trace **ret,
                     struct agon_err *err) AGON_MUST_USE;
