/* A path, a newline, a robots.txt: parsing and asking end, and the delay is within its limit. */
#include "synth/retrieval/robots.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DELAY_MS_MAX = 60000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_robots *r AGON_AUTO(agon_robots_freep) = NULL;
    const char *text = (const char *)data, *line = size ? memchr(text, '\n', size) : NULL;
    if (!line)
        return 0;
    char *path = strndup(text, (size_t)(line - text));
    struct agon_str body = {line + 1, size - (size_t)(line + 1 - text)};
    assert(path && agon_robots_parse(&r, body, "agon", NULL) == 0);
    assert(agon_robots_allow(r, "/robots.txt"));
    (void)agon_robots_allow(r, path);
    int delay = agon_robots_delay_ms(r);
    assert(delay >= -1 && delay <= DELAY_MS_MAX);
    free(path);
    return 0;
}
