/* A schema, a newline, a value: whatever the schema, the check ends; where it is well-formed, the
 * driver's walk over jansson's value and the cell's over Lua's give the same verdict in the
 * same words. (But for empty tables, which are {} and [] at once.) */
#include "base/json.h"
#include "envs/codec.h"
#include "envs/schema.h"
#include "sandbox/script.h"

#include <assert.h>
#include <lua.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct agon_codec codec;

struct walk {
    const json_t *schema;
    struct agon_str text;
    int read, fits;
    struct agon_err err;
};

static int open_codec(lua_State *L, void *arg)
{
    (void)arg;
    agon_codec_open(L);
    return 0;
}

static int run(lua_State *L, void *arg)
{
    struct walk *w = arg;
    struct agon_err err;
    w->read = agon_codec_decode(&codec, L, w->text, "answer", &err);
    if (!w->read)
        w->fits = agon_codec_fits(&codec, L, w->schema, "answer", &w->err);
    return 0;
}

static bool lua_walk(struct walk *w)
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
    int r = agon_script_protect(s, run, w, reason, sizeof(reason), &err);
    agon_script_restore(s);
    return r == 0 && !w->read;
}

static void compare(const json_t *schema, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    struct agon_err err = {0};
    agon_json_dump(&text, value);
    struct walk w = {.schema = schema, .text = agon_buf_str(&text)};
    int fits = agon_schema_fits(schema, value, "answer", &err);
    assert(fits == 0 || fits == 1);
    if (strstr(agon_buf_text(&text), "{}") || strstr(agon_buf_text(&text), "[]") || !lua_walk(&w))
        return;
    assert(w.fits == fits);
    assert(!fits || strcmp(w.err.text, err.text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *line = size ? memchr(data, '\n', size) : NULL;
    struct agon_err err;
    json_auto_t *schema = NULL, *value = NULL;
    if (!line || agon_json_parse(&schema, (struct agon_str){text, (size_t)(line - text)}, &err))
        return 0;
    size_t rest = size - (size_t)(line + 1 - text);
    if (agon_schema_check(schema, &err) ||
        agon_json_parse(&value, (struct agon_str){line + 1, rest}, &err))
        return 0;
    compare(schema, value);
    return 0;
}
