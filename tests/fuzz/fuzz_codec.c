/* What must hold for any text: what the codec reads it writes in one canonical form, which it
 * reads again unchanged and which means the same to the driver; what the driver reads the codec
 * reads, but for its narrower limits. */
#include "base/json.h"
#include "envs/codec.h"
#include "sandbox/script.h"

#include <assert.h>
#include <lua.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct agon_codec codec;

struct trip {
    struct agon_str in;
    struct agon_buf out;
    int decoded;
    bool read;
    struct agon_err why; /* decoded != 0 */
};

static int open_codec(lua_State *L, void *arg)
{
    (void)arg;
    agon_codec_open(L);
    return 0;
}

static int run(lua_State *L, void *arg)
{
    struct trip *t = arg;
    struct agon_err err;
    t->decoded = agon_codec_decode(&codec, L, t->in, "value", &t->why);
    if (!t->decoded)
        t->read = agon_codec_encode(&codec, L, NULL, "value", &t->out, &err) == 0;
    return 0;
}

/* Whether the text went through; false also where it ran out of fuel or memory. */
static bool through(struct trip *t)
{
    static struct agon_script *s;
    struct agon_err err;
    char reason[128];
    if (!s) {
        assert(agon_script_new(&s, NULL, &err) == 0);
        agon_codec_init(&codec);
        assert(agon_script_protect(s, open_codec, NULL, reason, sizeof(reason), &err) == 0);
        assert(agon_script_snapshot(s, &err) == 0);
    }
    int r = agon_script_protect(s, run, t, reason, sizeof(reason), &err);
    agon_script_restore(s);
    return r == 0 && t->read;
}

/* A text that the codec refused: so does the driver, or it is over a limit of cells. */
static void check_refused(const struct trip *t)
{
    static const char *const limits[] = {"nested over 32", "over 100,000 values", "over 1,000,000"};
    json_auto_t *value = NULL;
    struct agon_err err;
    bool limit = false;
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
        limit |= strstr(t->why.text, limits[i]) != NULL;
    assert(limit || agon_json_parse(&value, t->in, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trip once = {.in = {(const char *)data, size}, .out = AGON_BUF(8 << 20)};
    struct trip twice = {.out = AGON_BUF(8 << 20)};
    if (through(&once)) {
        json_auto_t *before = NULL, *after = NULL;
        struct agon_err err;
        twice.in = agon_buf_str(&once.out);
        assert(through(&twice));
        assert(agon_str_equal(agon_buf_str(&once.out), agon_buf_str(&twice.out)));
        assert(agon_json_parse(&before, once.in, &err) == 0);
        assert(agon_json_parse(&after, agon_buf_str(&once.out), &err) == 0);
        assert(json_equal(before, after));
    } else if (once.decoded) {
        check_refused(&once);
    }
    agon_buf_deinit(&once.out);
    agon_buf_deinit(&twice.out);
    return 0;
}
