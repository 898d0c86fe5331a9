/*
 * agon-parse, the program in the boxes where documents from elsewhere are taken apart: HTML, CSV
 * and JSON of pages (synth/retrieval/parse_ops.h). agon starts it; it is of no use by hand. It is
 * not agon-cell, so that the libraries it needs are in no cell and slow no cell's start.
 */
#include "sandbox/worker.h"
#include "synth/retrieval/parse_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const struct agon_worker_op *const tables[] = {agon_parse_ops, NULL};
    if (argc != 2 || strncmp(argv[1], "--parse=", 8) != 0) {
        fprintf(stderr, "agon-parse: started by agon, inside a box\n");
        return 2;
    }
    struct agon_worker_options o = {
        .tables = tables, .bytes_max = strtoull(argv[1] + 8, NULL, 10), .filter = true};
    agon_parse_prepare();
    return agon_worker_main(&o);
}
