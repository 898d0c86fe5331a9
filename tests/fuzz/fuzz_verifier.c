/* An answer, a newline, a verifier.lua: refused with a sentence, or checks that judge the answer
 * twice alike and leave the world as it is. */
#include "envs/world.h"
#include "tests/fuzz/samples.h"
#include "verifiers/verifier.h"

#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(struct agon_verifier *v, struct agon_str answer, struct agon_judgement *ret)
{
    struct agon_err err;
    assert(agon_verifier_run(v, NULL, answer, true, 0, ret, &err) == 0);
    assert(!ret->pass || !(ret->failed || ret->unclaimed || ret->schema));
    assert((ret->failed & ret->raised) == ret->raised);
}

static void judge_twice(struct agon_verifier *v, struct agon_str answer)
{
    json_t *held = json_object(); /* to be asked what it holds changes nothing */
    struct agon_judgement once = {0}, twice = {.texts = held};
    judge(v, answer, &once);
    judge(v, answer, &twice);
    assert(once.schema || json_object_size(held) > 0);
    assert(once.pass == twice.pass && once.failed == twice.failed);
    assert(once.raised == twice.raised && once.usage.fuel == twice.usage.fuel);
    for (int i = 0; i < agon_verifier_count(v); i++)
        assert(!once.reasons[i] == !twice.reasons[i] &&
               (!once.reasons[i] || strcmp(once.reasons[i], twice.reasons[i]) == 0));
    agon_judgement_deinit(&once);
    agon_judgement_deinit(&twice);
    json_decref(held);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agon_world *w;
    struct agon_verifier *v AGON_AUTO(agon_verifier_freep) = NULL;
    struct agon_err err = {0};
    const char *text = (const char *)data, *line = size ? memchr(text, '\n', size) : NULL;
    if (!line)
        return 0;
    if (!w)
        w = fuzz_world();
    struct agon_str source = {line + 1, size - (size_t)(line + 1 - text)};
    int r = agon_verifier_load(&v, w, source, &err);
    assert(r == 0 || (r == AGON_VERIFIER_REFUSED && err.text[0]));
    if (r)
        return 0;
    assert(agon_verifier_count(v) > 0 && agon_verifier_is(v, source));
    assert(agon_world_set_query_only(w, true, &err) == 0);
    judge_twice(v, (struct agon_str){text, (size_t)(line - text)});
    assert(agon_world_set_query_only(w, false, &err) == 0);
    return 0;
}
