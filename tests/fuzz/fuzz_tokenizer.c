/* Any bytes as tokenizer.json: refused, or a tokenizer whose ids decode to the text they came
 * from and that never makes an added token out of plain text. */
#include "model/tokenizer.h"

#include <assert.h>
#include <stdint.h>

enum { N_VOCAB = 1000, IDS_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct agon_tokenizer *t, struct agon_str text, bool trusted)
{
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(IDS_MAX);
    struct agon_buf back AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 22);
    struct agon_err err;
    if (agon_tokenizer_encode(t, text, trusted, &ids, &err))
        return; /* a pattern may give up */
    for (size_t i = 0; i < ids.n; i++) {
        struct agon_str token = agon_tokenizer_text(t, ids.data[i]);
        assert(token.size > 0);
        assert(trusted || agon_tokenizer_added(t, token) != ids.data[i]);
    }
    assert(agon_tokenizer_decode(t, ids.data, ids.n, &back, &err) == 0);
    assert(back.size <= text.size); /* less where a Split removes what it matches */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_tokenizer *t = NULL;
    struct agon_err err;
    if (agon_tokenizer_parse(&t, (struct agon_str){(const char *)data, size}, N_VOCAB, &err))
        return 0;
    struct agon_str text = agon_str("Hello, <think> 1234  毕老师!\n\n  e\xcc\x81 </think>");
    check_text(t, text, false);
    check_text(t, text, true);
    agon_tokenizer_free(t);
    return 0;
}
