/* Any bytes as tools.lua: refused with a sentence, or tools each of which can be called, twice
 * with the same result, by whoever holds their names. */
#include "base/text.h"
#include "envs/toolset.h"
#include "tests/fuzz/samples.h"

#include <assert.h>
#include <stdint.h>

enum { FUEL = 200000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct called {
    struct agon_buf canonical, result;
    int status;
};

static void call(struct agon_toolset *ts, struct agon_world *w, int tool, struct called *ret)
{
    struct agon_err err;
    struct agon_tool_call c = {.tool = tool,
                               .arguments = agon_str("{\"city\": \"Wien\", \"n\": 1}"),
                               .fuel = FUEL,
                               .canonical = &ret->canonical,
                               .result = &ret->result};
    assert(agon_world_reset(w, &err) == 0 && agon_world_begin_call(w, &err) == 0);
    ret->status = agon_toolset_call(ts, &c, &err);
    assert(ret->status == 0 || ret->status == AGON_CALL_ERROR);
    assert(agon_world_end_call(w, false, &err) == 0);
}

static void call_twice(struct agon_toolset *ts, struct agon_world *w, int tool)
{
    struct called c[2] = {{AGON_BUF(64 << 20), AGON_BUF(64 << 20), 0},
                          {AGON_BUF(64 << 20), AGON_BUF(64 << 20), 0}};
    for (int i = 0; i < 2; i++)
        call(ts, w, tool, &c[i]);
    assert(c[0].status == c[1].status);
    assert(agon_str_equal(agon_buf_str(&c[0].result), agon_buf_str(&c[1].result)));
    assert(agon_str_equal(agon_buf_str(&c[0].canonical), agon_buf_str(&c[1].canonical)));
    assert(c[0].status || agon_utf8_valid(agon_buf_str(&c[0].result)));
    for (int i = 0; i < 2; i++) {
        agon_buf_deinit(&c[i].canonical);
        agon_buf_deinit(&c[i].result);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agon_world *w;
    struct agon_toolset *ts AGON_AUTO(agon_toolset_freep) = NULL;
    struct agon_err err = {0};
    if (!w)
        w = fuzz_world();
    int r = agon_toolset_load(&ts, w, (struct agon_str){(const char *)data, size}, &err);
    assert(r == 0 || (r == AGON_TOOLSET_REFUSED && err.text[0]));
    for (int i = 0; !r && i < agon_toolset_count(ts); i++) {
        const struct agon_tool_entry *t = agon_toolset_get(ts, i);
        assert(agon_toolset_find(ts, agon_str(t->name)) == i);
        assert(agon_utf8_valid(agon_str(t->description)) && t->params && t->returns);
        call_twice(ts, w, i);
    }
    return 0;
}
