#pragma once
/* The library's insides, shared by library.c (building it) and retrieval.c (using it). */
#include "synth/retrieval.h"
#include "synth/retrieval/document.h"
#include "synth/retrieval/fetcher.h"
#include "synth/retrieval/index.h"
#include "synth/retrieval/parser.h"

/* Prefix of the folders beside docs_dir that stages show to their bash boxes. */
#define AGON_STAGE_DOCS "stage."

struct agon_library {
    struct agon_library_options options; /* borrowed texts; defaults filled in */
    char *dir, *docs_dir; /* docs_dir/<sha256>: the bodies of crawled and fetched documents */
    struct agon_index *index;
    struct agon_fetcher *fetcher;
    struct agon_parser *parser;
    int n_documents;
};

/* Keep a body under its hash. */
int agon_library_keep(struct agon_library *lib, struct agon_str body, char ret_sha256[65],
                      struct agon_err *err) AGON_MUST_USE;
