/* What must hold for any bytes: the rewriter is idempotent and writes UTF-8; whatever the
 * parser takes the rewriter takes too, and both write it alike; jansson's own reader takes the same
 * texts and reads the same values, but for what the parser's limits and its words on NUL refuse. */
#include "base/json.h"

#include <assert.h>
#include <stdint.h>

enum { SIZE_MAX_OUT = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parsed(const json_t *value, struct agon_str rewritten)
{
    struct agon_buf dump AGON_AUTO(agon_buf_deinit) = AGON_BUF(SIZE_MAX_OUT);
    agon_json_dump(&dump, value);
    assert(agon_str_equal(agon_buf_str(&dump), rewritten));
    agon_json_dump_sorted(&dump, value);
    assert(dump.size == 2 * rewritten.size);
}

static void check_oracle(struct agon_str text, const json_t *value, const struct agon_err *err)
{
    json_auto_t *theirs = json_loadb(text.size ? text.data : "", text.size,
                                     JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (value) {
        assert(theirs && json_equal(theirs, value));
        return;
    }
    bool limit = strstr(err->text, "nested over") || strstr(err->text, "over 400 digits") ||
                 memchr(text.data, '\0', text.size);
    assert(!theirs || limit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_str text = {(const char *)data, size};
    struct agon_buf once AGON_AUTO(agon_buf_deinit) = AGON_BUF(SIZE_MAX_OUT);
    struct agon_buf twice AGON_AUTO(agon_buf_deinit) = AGON_BUF(SIZE_MAX_OUT);
    json_auto_t *value = NULL;
    struct agon_err err;
    int parsed = agon_json_parse(&value, text, &err);
    assert(!parsed || (parsed == AGON_EINPUT && !value));
    check_oracle(text, value, &err);
    int rewritten = agon_json_rewrite(&once, text, &err);
    if (rewritten) {
        assert(parsed && once.size == 0);
        return 0;
    }
    assert(agon_utf8_valid(agon_buf_str(&once)));
    assert(agon_json_rewrite(&twice, agon_buf_str(&once), &err) == 0);
    assert(agon_str_equal(agon_buf_str(&once), agon_buf_str(&twice)));
    if (!parsed)
        check_parsed(value, agon_buf_str(&once));
    return 0;
}
