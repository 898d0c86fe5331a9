#pragma once
/*
 * An author's stage: an episode whose user message is built from what is stored and
 * whose tool calls change a copy of the draft, each checked when it is made. When the
 * stage is done the copy is what the next stage begins with; when it fails, the same
 * stage is tried again as the next sample, from the same draft.
 */
#include "base/rng.h"
#include "model/model.h"
#include "synth/context.h"
#include "synth/draft.h"
#include "synth/family.h"

struct agon_sandbox;
struct agon_prompts;
struct agon_library;
struct agon_episode_report;
struct agon_stage_run;

/* What the stages of one environment share; all borrowed. */
struct agon_workshop {
    struct agon_model *model;
    struct agon_sandbox *sandbox;
    const struct agon_prompts *prompts;
    struct agon_library *library;  /* for search, fetch, import_table */
    struct agon_sampling sampling; /* temperature, top_p, top_k, tokens_max */
    enum agon_context context;
    struct agon_rng rng; /* the environment's stream */
    const char *scratch; /* a folder for world files in the making */
};
struct agon_stage_place {
    const struct agon_stage *stage;
    int line, level; /* of a level stage; else 0 */
    int sample;      /* 0 and up */
};
enum { AGON_STAGE_NAME = 32 };
/* "retrieve", "tools", "t1_l2". */
void agon_stage_name(const struct agon_stage_place *place, char ret_name[AGON_STAGE_NAME]);

/* draft: borrowed, copied. */
int agon_stage_begin(struct agon_stage_run **ret, const struct agon_workshop *shop,
                     const struct agon_draft *draft, const struct agon_stage_place *place,
                     struct agon_err *err) AGON_MUST_USE;
void agon_stage_free(struct agon_stage_run *run);
AGON_DEFINE_FREEP(struct agon_stage_run, agon_stage_free)

enum { AGON_STAGE_ENDED = 1 };
/* Go as far as is possible without waiting: 0 (poll the model), AGON_STAGE_ENDED, or <0. */
int agon_stage_step(struct agon_stage_run *run, struct agon_err *err) AGON_MUST_USE;

/* Once ended: NULL when the stage is done, else why it failed. */
const char *agon_stage_failure(const struct agon_stage_run *run);
const struct agon_episode_report *agon_stage_report(const struct agon_stage_run *run);
/* What happened, in order: [{"kind", ...}] (borrowed). */
const json_t *agon_stage_events(const struct agon_stage_run *run);
/* Once done: the draft as the stage leaves it; owned by the caller. */
struct agon_draft *agon_stage_take_draft(struct agon_stage_run *run);
