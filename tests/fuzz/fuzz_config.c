/* Any bytes as config.json: refused by name, or every number in the range that its header says. */
#include "base/json.h"
#include "model/config.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_layers(const struct agon_config *c)
{
    assert(c->n_layers > 0 && c->n_layers <= AGON_LAYERS_MAX);
    for (int i = 0; i < c->n_layers; i++)
        assert(!c->sparse[i] || (c->router.n_experts > 0 && c->expert_dim > 0 &&
                                 c->router.n_experts % c->router.n_group == 0 &&
                                 c->router.topk_group <= c->router.n_group));
    assert(c->indexer[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_config c;
    struct agon_err err = {0};
    json_auto_t *root = NULL;
    if (agon_json_parse(&root, (struct agon_str){(const char *)data, size}, &err))
        return 0;
    if (agon_config_parse(&c, root, &err)) {
        assert(err.text[0]);
        return 0;
    }
    check_layers(&c);
    assert(c.n_vocab > 0 && c.hidden > 0 && c.window > 0 && c.n_heads > 0);
    assert(c.rope_dim % 2 == 0 && c.rope_dim <= c.index_dim);
    assert(isfinite(c.norm_eps) && isfinite(c.rope.theta) && isfinite(c.router.scale));
    assert(c.bos >= -1 && c.bos < c.n_vocab && c.n_eos >= 0 && c.n_eos <= AGON_EOS_MAX);
    for (int i = 0; i < c.n_eos; i++)
        assert(c.eos[i] >= 0 && c.eos[i] < c.n_vocab);
    return 0;
}
