/* make_checkpoint DIR [F32|BF16|F8_E4M3]: a random checkpoint with the embedded model's
 * dimensions, to measure with before there is a trained one: agon model bench DIR. */
#include "tests/model/random_checkpoint.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct random_checkpoint r = RANDOM_CHECKPOINT_EMBEDDED;
    struct agon_err err;
    for (int dtype = AGON_F32; argc > 2 && dtype <= AGON_E4M3; dtype++)
        if (strcmp(argv[2], agon_dtype_name((enum agon_dtype)dtype)) == 0)
            r.dtype = (enum agon_dtype)dtype;
    if (argc < 2) {
        fprintf(stderr, "usage: make_checkpoint DIR [F32|BF16|F8_E4M3]\n");
        return 2;
    }
    if (random_checkpoint_write(argv[1], &r, &err) == 0)
        return 0;
    fprintf(stderr, "make_checkpoint: %s\n", err.text);
    return 1;
}
