/*
 * Cells that were taken over: what a worker can do when model-written code has got hold of it. The
 * worker is cell_attacks.c.
 */
#include "sandbox/boxed.h"
#include "sandbox/cell.h"
#include "sandbox/frame.h"
#include "sandbox/interrupt.h"
#include "tests/attacks/battery.h"

#include <stdlib.h>
#include <time.h>

static char reason[128];
static struct agon_err err;
static struct agon_sandbox *sb;

/* Before the first attack, so that each finds it running. */
__attribute__((constructor(65535))) static void start(void)
{
    if (agon_sandbox_open(&sb, NULL, &err) == 0)
        return;
    printf("Bail out! %s\n", err.text); /* no case could say so */
    exit(1);
}

static int call(const char *op, struct agon_str request, struct agon_buf *reply)
{
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    reason[0] = '\0';
    if (!EXPECT(agon_cell_new(&c, sb, &err) == 0))
        return -1;
    int r = agon_cell_call(c, op, request, reply, reason, &err);
    struct agon_buf again AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    if (r == AGON_CELL_LOST) { /* it stays lost, and the next one works */
        struct agon_cell *next AGON_AUTO(agon_cell_freep) = NULL;
        char other[128];
        EXPECT(agon_cell_call(c, "echo", agon_str(""), &again, other, &err) == AGON_CELL_LOST);
        EXPECT(agon_cell_new(&next, sb, &err) == 0 &&
               agon_cell_call(next, "echo", agon_str("hi"), &again, other, &err) == 0 &&
               agon_str_is(agon_buf_str(&again), "hi"));
    }
    return r;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#define LOST(op, request, part)                                                 \
    do {                                                                        \
        struct agon_buf reply_ AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20); \
        EXPECT(call(op, request, &reply_) == AGON_CELL_LOST);                   \
        EXPECT_HAS(reason, part);                                               \
    } while (0)

ATTACK(B11_a_hang_is_lost_after_a_second)
{
    int64_t start = now_ms();
    LOST("hang", agon_str(""), "no heartbeat for");
    int64_t took = now_ms() - start; /* of its own time; ten seconds where it gets hardly any */
    EXPECT(took > 900 && took < 25000);
}

/* One that was taken over beats for ever: it answers nothing, or takes no request any more. */
ATTACK(B11_a_cell_that_beats_for_ever_is_lost_at_its_deadline)
{
    struct agon_box_options cell = {.kind = AGON_BOX_CELL};
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64),
                          big AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_boxed *silent AGON_AUTO(agon_boxed_closep) = NULL;
    struct agon_boxed *deaf AGON_AUTO(agon_boxed_closep) = NULL;
    struct agon_frame_head head;
    REQUIRE(agon_boxed_open(&silent, sb, &cell, &err) == 0 &&
            agon_boxed_open(&deaf, sb, &cell, &err) == 0);
    EXPECT(agon_boxed_call(silent, "raw", agon_str(""), 500, &reply, reason, &err) ==
           AGON_CELL_LOST);
    EXPECT_TEXT(reason, "no reply in time");
    agon_frame_head_init(&head, "raw", 0, 0); /* a good reply, and then it does not read */
    EXPECT(agon_boxed_call(deaf, "raw", (struct agon_str){(char *)&head, sizeof(head)}, 20000,
                           &reply, reason, &err) == 0);
    memset(agon_buf_extend(&big, 16 << 20), 'x', 16 << 20);
    EXPECT(agon_boxed_call(deaf, "echo", agon_buf_str(&big), 500, &reply, reason, &err) ==
           AGON_CELL_LOST);
    EXPECT_TEXT(reason, "no reply in time");
}

ATTACK(B11_who_waits_for_a_cell_can_interrupt_it)
{
    struct agon_box_options cell = {.kind = AGON_BOX_CELL};
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    struct agon_boxed *boxed AGON_AUTO(agon_boxed_closep) = NULL;
    REQUIRE(agon_boxed_open(&boxed, sb, &cell, &err) == 0);
    agon_interrupt(true);
    EXPECT(agon_boxed_call(boxed, "raw", agon_str(""), 5000, &reply, reason, &err) ==
           AGON_CELL_LOST);
    agon_interrupt(false);
    EXPECT_TEXT(reason, "interrupted");
}

ATTACK(A10_an_error_outside_of_any_entry)
{
    LOST("panic", agon_str(""), "ended with status 70: agon: lua panic: nobody catches this");
}

ATTACK(A10_a_crash_is_told_by_its_signal)
{
    LOST("crash", agon_str(""), "killed by signal 11");
    LOST("abort", agon_str(""), "killed by signal");
    LOST("exit", agon_str(""), "ended with status 3");
}

ATTACK(J3_frames_that_break_the_format)
{
    struct agon_frame_head h;
    struct agon_str head = {(const char *)&h, sizeof(h)};
    agon_frame_head_init(&h, "raw", 0, 0);
    h.magic = 7;
    LOST("raw", head, "wrong magic");
    agon_frame_head_init(&h, "raw", 0, (size_t)1 << 40);
    LOST("raw", head, "at most");
    agon_frame_head_init(&h, "raw", 5, 0);
    LOST("raw", head, "unknown status 5");
    agon_frame_head_init(&h, "other", 0, 0);
    LOST("raw", head, "not the reply");
    agon_frame_head_init(&h, "raw", 0, 0);
    memset(h.op, 'x', sizeof(h.op));
    LOST("raw", head, "not ended");
    agon_frame_head_init(&h, "a\x1b[", 0, 0);
    LOST("raw", head, "byte 0x1b");
    struct {
        struct agon_frame_head h;
        char more[8];
    } extra = {.more = "extra"};
    agon_frame_head_init(&extra.h, "raw", 0, 2);
    LOST("raw", ((struct agon_str){(const char *)&extra, sizeof(extra)}), "not the reply");
    LOST("flood", agon_str(""), "wrong magic");
}

ATTACK(J3_frames_whose_length_is_off_by_one)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    LOST("cut_short", agon_str("all but one"), "ended with status 0");
    LOST("cut_short", agon_str(""), "ended with status 0");
    EXPECT(call("drip", agon_str("byte by byte"), &reply) == 0);
    EXPECT(agon_str_is(agon_buf_str(&reply), "byte by byte"));
    struct {
        struct agon_frame_head h;
        char more[4];
    } whole = {.more = "abcd"};
    agon_frame_head_init(&whole.h, "raw", 0, 4);
    struct agon_str bytes = {(const char *)&whole, sizeof(whole.h) + 4};
    EXPECT(call("raw", bytes, &reply) == 0 && agon_str_is(agon_buf_str(&reply), "abcd"));
    agon_frame_head_init(&whole.h, "raw", 0, 3);
    LOST("raw", bytes, "not the reply");
}

/* What a lost cell said is shown to people: nothing of it reaches their terminal as it is. */
ATTACK(J3_last_words_are_letters)
{
    LOST("last_words", agon_str(""), "ended with status 4: ?[2J?]0;owned?? pass");
    LOST("refuse", agon_str(""), "?[31mfine??verdict: pass???");
}

ATTACK(E12_nothing_leads_out_of_a_cell)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    setenv("AGON_TEST_SECRET", "canary-in-the-environment", 1);
    EXPECT(call("escape", agon_str(""), &reply) == 0);
    if (!EXPECT(agon_str_is(agon_buf_str(&reply), "PWD=/ "))) /* bubblewrap's own word */
        printf("# worked: %s\n", agon_buf_text(&reply));
}

ATTACK(B12_memory_and_standard_error_are_bounded)
{
    b->rss_mib_max = 520; /* the address space of a cell */
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    EXPECT(call("memory", agon_str(""), &reply) == 0);
    int mib = atoi(agon_buf_text(&reply));
    EXPECT(mib > 300 && mib < 512);
    EXPECT(call("noise", agon_str(""), &reply) == 0);
    EXPECT(atoi(agon_buf_text(&reply)) <= 5);
}

ATTACK(C2_hashes_have_one_seed_in_all_cells)
{
    struct agon_buf first AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    EXPECT(call("seed", agon_str(""), &first) == 0);
    EXPECT(first.size > 100);
    for (int i = 0; i < 5; i++) {
        setenv("AGON_TEST_LENGTH", (const char *[]){"", "x", "xxxxxxxxxxxxxxxxxxxx"}[i % 3], 1);
        EXPECT(call("seed", agon_str("request"), &reply) == 0);
        EXPECT(agon_str_equal(agon_buf_str(&first), agon_buf_str(&reply)));
    }
}

ATTACK(B11_an_entry_that_spends_too_little_fuel)
{
    b->seconds_max = 100; /* some four seconds of processor time */
    LOST("lua", agon_str("while true do end"), "no heartbeat for");
}

ATTACK(B11_many_short_entries_are_no_hang)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    EXPECT(call("busy", agon_str(""), &reply) == 0);
}
