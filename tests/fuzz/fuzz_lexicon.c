/* What must hold for any bytes read as a prompt, as Lua and as a verifier: numbers are not
 * negative, texts and shapes are no longer than what they come from, and a prompt says the same as
 * itself. */
#include "verifiers/lexicon.h"
#include "verifiers/skeleton.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void shape_of(struct agon_str text)
{
    struct agon_buf shape AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    json_auto_t *answer = json_pack("{s:i, s:i}", "a", 1, "b", 1);
    agon_skeleton(text, &shape);
    assert(!shape.failed && shape.size <= text.size);
    for (int n = 1, pair[2]; n < 4; n++)
        if (agon_checks_repeat(text, n, answer, pair))
            assert(0 <= pair[0] && pair[0] < pair[1] && pair[1] < n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_str text = {(const char *)data, size};
    struct agon_literals literals;
    struct agon_mentions mentions;
    assert(agon_lua_literals(&literals, text, NULL, NULL) == 0);
    for (size_t i = 0; i < literals.n; i++) {
        assert(strlen(literals.items[i].text) <= size);
        assert(!(literals.items[i].is_number && literals.items[i].number < 0));
        assert(!(literals.items[i].label && literals.items[i].compared));
    }
    assert(agon_prompt_mentions(&mentions, text, NULL) == 0);
    for (size_t i = 0; i < mentions.n; i++) {
        const struct agon_mention *m = &mentions.items[i];
        assert(strlen(m->text) <= size);
        assert(m->kind != AGON_MENTION_NUMBER || agon_mentions_number(&mentions, m->number));
    }
    agon_literals_deinit(&literals);
    agon_mentions_deinit(&mentions);
    double likeness = agon_prompt_likeness(text, text);
    assert(likeness == 1.0);
    shape_of(text);
    return 0;
}
