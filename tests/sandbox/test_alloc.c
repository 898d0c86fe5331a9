/* Every allocation of the driver's side fails once: each time a clean error, and no box left. */
#include "sandbox/bashbox.h"
#include "sandbox/cell.h"
#include "tests/alloc.h"
#include "tests/test.h"

#include <stdlib.h>

static struct agon_err err;

/* Everything that allocates, once. */
static int use(struct agon_sandbox *sb)
{
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_bash_result result = {0};
    char reason[128];
    static char big[100000];
    int r = agon_cell_new(&c, sb, &err);
    if (r == 0)
        r = agon_cell_call(c, "echo", (struct agon_str){big, sizeof(big)}, &reply, reason, &err);
    if (r == 0)
        r = agon_bashbox_open(&b, sb, &(struct agon_bashbox_options){0}, &err);
    if (r == 0)
        r = agon_bashbox_write(b, "f", agon_str("content"), &err);
    if (r == 0)
        r = agon_bashbox_run(b, agon_str("cat f"), 5000, &result, &err);
    bool same = r != 0 || strcmp(agon_buf_text(&result.output), "content") == 0;
    agon_bash_result_deinit(&result);
    if (r == 0)
        r = agon_bashbox_read(b, "f", 100, &reply, &err);
    return same ? r : 1;
}

TEST(every_failed_allocation_is_an_error_and_no_more)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    REQUIRE(agon_sandbox_open(&sb, NULL, &err) == 0);
    EXPECT(use(sb) == 0);
    long n = 1;
    for (; alloc_fail_at(n); n++) {
        int r = use(sb);
        bool failed = alloc_failed();
        if (!EXPECT(failed ? r == AGON_ENOMEM : r == 0))
            printf("# allocation %ld: %d %s\n", n, r, r ? err.text : "");
    }
    EXPECT(n > 10);
    EXPECT(use(sb) == 0); /* the sandbox itself is whole */
}

TEST(opening_the_sandbox_survives_each_failed_allocation)
{
    long n = 1;
    for (; alloc_fail_at(n); n++) {
        struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
        int r = agon_sandbox_open(&sb, NULL, &err);
        bool failed = alloc_failed();
        /* the probe reports what it met as a system that builds no box */
        if (!EXPECT(failed ? r < 0 : r == 0))
            printf("# allocation %ld: %d %s\n", n, r, r ? err.text : "");
    }
    EXPECT(n > 4);
}
