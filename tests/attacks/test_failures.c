/*
 * B13, A5: each allocation of a cell's code fails once - our own, SQLite's, and
 * those of Lua's heap. An op then says the right thing, names the lack of
 * memory, or ends the cell; nothing leaks (LeakSanitizer watches), and a fresh
 * cell gives the right result.
 */
#include "tests/alloc.h"
#include "tests/envs/local.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include "sandbox/heap.h"

#include <jansson.h>
#include <stdlib.h>

/* jansson 2.14 writes past its buffer when that cannot grow: it gets memory of
 * its own. */
static void *jansson_malloc(size_t size)
{
    return aligned_alloc(16, (size + 15) / 16 * 16);
}

static long lua_until; /* blocks of Lua's heap until the one that is refused; 0:
                          none is */
static bool lua_failed;

static bool fails_now(void)
{
    bool now = lua_until > 0 && --lua_until == 0;
    lua_failed = lua_failed || now;
    return now;
}

void *__real_agon_heap_realloc(struct agon_heap *h, void *block, size_t old, size_t size);
void *__wrap_agon_heap_realloc(struct agon_heap *h, void *block, size_t old, size_t size);
void *__wrap_agon_heap_realloc(struct agon_heap *h, void *block, size_t old, size_t size)
{
    bool grows = size > (block ? old : 0);
    return grows && fails_now() ? NULL : __real_agon_heap_realloc(h, block, old, size);
}

/* The shorter way of a new block, within an entry. */
void *__real_agon_heap_take(struct agon_heap *h, size_t size);
void *__wrap_agon_heap_take(struct agon_heap *h, size_t size);
void *__wrap_agon_heap_take(struct agon_heap *h, size_t size)
{
    return fails_now() ? NULL : __real_agon_heap_take(h, size);
}

static const char *const booked[] = {
    "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\", \"nights\": 2}", NULL};
static const char solution[] =
    "return function(tools) local t = setmetatable({}, {__newindex = "
    "function(t, k, v) rawset(t, k, "
    "v) end, __index = function() return 0 end}) for i = 1, 40 do t['k' .. i] "
    "= {i, ('x'):rep(i)} end "
    "local n = 0 for k, v in pairs(t) do n = n + #v[2] end "
    "local b = tools.book{hotel = 'Corso', guest = 'Ann'} "
    "return {n = n, id = b.booking, all = #tools.bookings{}, s = "
    "('a-b'):gsub('%a', '<%0>')} end";

/* What the steps say when nothing fails. */
static const struct {
    const char *name, *wanted;
} steps[] = {
    {"read", "[{\"name\": \"Astoria\", \"price\": 120.0, \"id\": 1}, "
             "{\"name\": \"Corso\", \"price\": "
             "null, \"id\": 3}]"},
    {"write", "{\"booking\": 2, \"nights\": 1}"},
    {"sql", "[{\"n\": 1, \"g\": \"Li\"}]"},
    {"solve", "{\"all\": 1, \"id\": 1, \"n\": 820, \"s\": \"<a>-<b>\"}"},
};
enum { N_STEPS = sizeof(steps) / sizeof(*steps) };

static int step_run(struct local *l, int step, const char **said)
{
    *said = "";
    switch (step) {
    case 0: return local_call(l, booked, "hotels", "{\"city\": \"Wien\"}", said);
    case 1:
        return local_call(l, booked, "book", "{\"hotel\": \"Corso\", \"guest\": \"Ann\"}", said);
    case 2: return local_sql(l, booked, "SELECT count(*) AS n, max(guest) AS g FROM booking", said);
    default: return local_solve(l, solution, "", said);
    }
}

static bool started(struct local *l)
{
    const char *said;
    local_init(l);
    return EXPECT(l->cell != NULL) && EXPECT(local_open(l, sample_world, sample_tools, &said) == 0);
}

/* Either of the two kinds of failure, at the nth place of this step. */
static bool step_fails(int step, long n, bool in_lua)
{
    struct local l;
    const char *said = "";
    if (!started(&l))
        return false;
    if (!in_lua)
        (void)alloc_fail_at(n);
    lua_failed = false;
    lua_until = in_lua ? n : 0;
    int r = step_run(&l, step, &said);
    lua_until = 0;
    bool failed = in_lua ? lua_failed : alloc_failed();
    if (!said) /* the test's own copy of it */
        EXPECT(failed);
    else if (r == 0)
        EXPECT_TEXT(said, steps[step].wanted); /* it did without */
    else if (r > 0)
        EXPECT_HAS(said, "memory");
    else
        EXPECT(failed);
    if (r >= 0) { /* then the cell goes on */
        r = step_run(&l, step, &said);
        EXPECT(r == 0);
        EXPECT_TEXT(said, steps[step].wanted);
    }
    local_deinit(&l);
    return failed;
}

#define SWEEP(id, step, in_lua)                                     \
    TEST(id)                                                        \
    {                                                               \
        long n = 1;                                                 \
        json_set_alloc_funcs(jansson_malloc, free);                 \
        while (step_fails(step, n, in_lua) && test_failures == 0)   \
            n++;                                                    \
        printf("# %s: %ld allocations\n", steps[step].name, n - 1); \
        EXPECT(n > 1);                                              \
    }
SWEEP(B13_each_allocation_of_a_reading_call, 0, false)
SWEEP(B13_each_allocation_of_a_writing_call, 1, false)
SWEEP(B13_each_allocation_of_a_query, 2, false)
SWEEP(B13_each_allocation_of_a_solution, 3, false)
SWEEP(B13_each_block_of_lua_in_a_reading_call, 0, true)
SWEEP(B13_each_block_of_lua_in_a_writing_call, 1, true)
SWEEP(A5_each_block_of_lua_in_a_solution_with_metatables, 3, true)

TEST(B13_each_allocation_of_opening)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    long n = 1;
    json_set_alloc_funcs(jansson_malloc, free);
    local_image(&image, sample_world);
    for (bool failed = true; failed && test_failures == 0; n++) {
        struct local l;
        const char *said;
        local_init(&l);
        REQUIRE(l.cell != NULL);
        agon_wire_add_str(&l.request, agon_buf_str(&image));
        agon_wire_add_text(&l.request, sample_tools);
        (void)alloc_fail_at(n);
        int r = local_op(&l, "env.open");
        failed = alloc_failed();
        EXPECT(failed || r == 0);
        if (r == 0) /* whether it says so, or that it opened: then it works or says
                       so again */
            EXPECT(local_open(&l, sample_world, sample_tools, &said) == 0);
        local_deinit(&l);
    }
    printf("# %ld allocations\n", n - 2);
}
