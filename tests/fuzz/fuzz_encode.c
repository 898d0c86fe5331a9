/* Cases for agon_encode_case(): segments cover what was written, and nothing but TOKEN
 * segments of trusted markup hold a control token. */
#include "model/encoding.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_prompt p AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
    size_t at = 0;
    if (agon_encode_case(&p, (struct agon_str){(const char *)data, size}, NULL))
        return 0;
    for (size_t i = 0; i < p.n_segments; at += p.segments[i++].size)
        if (p.segments[i].at != at || p.segments[i].size == 0)
            abort();
    if (at != p.text.size)
        abort();
    return 0;
}
