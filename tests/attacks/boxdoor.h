#pragma once
/*
 * The door of attacks on bash boxes: a fresh box for each attack, out of a sandbox that all of
 * them share, and a neighbour that lives in a second box of it and must never notice anything.
 */
#include "sandbox/bashbox.h"
#include "tests/attacks/battery.h"

extern struct agon_err door_err;
struct agon_sandbox *door_sandbox(void);
/* A box of its own; NULL has failed the test. */
struct agon_bashbox *door_open(size_t work_bytes_max);
/* One command; its output is in door_said. Returns its status, or -1 when the box was lost. */
int door_run_for(struct agon_bashbox *box, const char *command, int timeout_ms);
int door_run(struct agon_bashbox *box, const char *command);
extern char door_said[300 << 10];
extern struct agon_bash_result door_result; /* of the last command, without its output */

/* What the command prints is this, or has this in it. */
void door_says(struct agon_bashbox *box, const char *command, const char *text, int line);
void door_has(struct agon_bashbox *box, const char *command, const char *part, int line);
#define SAYS(box, command, text) door_says(box, command, text, __LINE__)
#define HAS(box, command, part)  door_has(box, command, part, __LINE__)
/* /work/hostile becomes tests/attacks/box_hostile.c; `hostile NAME` does nothing but say "done". */
void door_hostile(struct agon_bashbox *box, const char *name);

/* An attack on a box `box` of its own. */
#define BOX_ATTACK(id)                                                          \
    static void box_attack_##id(struct battery *b, struct agon_bashbox *box);   \
    ATTACK(id)                                                                  \
    {                                                                           \
        struct agon_bashbox *box AGON_AUTO(agon_bashbox_closep) = door_open(0); \
        b->rss_mib_max = 1200; /* a process of a box may have 1 GiB, */         \
        b->seconds_max = 60;   /* and filling that takes a while */             \
        if (box)                                                                \
            box_attack_##id(b, box);                                            \
    }                                                                           \
    static void box_attack_##id(struct battery *b __attribute__((unused)), struct agon_bashbox *box)
