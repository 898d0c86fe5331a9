#pragma once
/* Shared by stage.c (the run of a stage) and the files of the author's tools. */
#include "synth/episode.h"
#include "synth/prompts.h"
#include "synth/retrieval.h"
#include "synth/stage.h"

#include "envs/runtime.h"
#include "sandbox/bashbox.h"

enum { STAGE_TOOLS_MAX = 8 };

struct agon_stage_run {
    struct agon_workshop shop;
    struct agon_stage_place place;
    char name[AGON_STAGE_NAME];
    struct agon_draft *draft; /* the working copy */
    struct agon_rng rng;      /* this sample's stream */
    json_t *head;             /* system and user message */
    struct agon_episode_tool tools[STAGE_TOOLS_MAX];
    struct agon_episode *episode;
    struct agon_runtime *rt;          /* the world with the tools so far; NULL in a world's stage */
    struct agon_retrieval *retrieval; /* opened on first use */
    struct agon_bashbox *box;         /* opened on first use */
    char box_world[65];               /* sha256 of the world as the box has it */
    int n_worlds;                     /* world files written: the next one's number */
    int proposals;
    bool accepted;
    json_t *events;
    char failure[512]; /* "" while going on or when done */
};

typedef int agon_author_call(void *user, const char *name, const json_t *arguments,
                             struct agon_buf *result, struct agon_err *err);
/* The author's tools by name: author_data.c, author_bash.c, author_tools.c, author_task.c. */
agon_author_call agon_author_search, agon_author_fetch, agon_author_import_table, agon_author_bash,
    agon_author_define_tool, agon_author_propose_task;

/* Note an event; detail is taken. */
int agon_stage_note(struct agon_stage_run *run, const char *kind, json_t *detail,
                    struct agon_err *err) AGON_MUST_USE;
/* The path of the next world file in the scratch folder. */
int agon_stage_world_path(struct agon_stage_run *run, char ret_path[4096],
                          struct agon_err *err) AGON_MUST_USE;
/* The task that this stage's level stands on, or NULL. */
const struct agon_task *agon_stage_below(const struct agon_stage_run *run);
int agon_stage_retrieval(struct agon_stage_run *run, struct agon_err *err) AGON_MUST_USE;
/* Read a file below /work of the box for import_table (agon_read_work_fn). */
int agon_author_read_work(void *user, const char *name, struct agon_buf *content,
                          struct agon_err *err);
/* Hand the draft's world to the box, when there is one. */
int agon_author_box_world(struct agon_stage_run *run, struct agon_err *err) AGON_MUST_USE;
