#pragma once
/*
 * A document as the author reads it: its kind, the text that fetch shows, the
 * table that import_table takes out of it, and the words that the index keeps.
 */
#include "base/buf.h"
#include "synth/retrieval/html.h"
#include "synth/retrieval/table.h"

enum agon_document_kind {
    AGON_DOC_HTML,
    AGON_DOC_CSV,
    AGON_DOC_TSV,
    AGON_DOC_JSON,
    AGON_DOC_TEXT,
    AGON_DOC_BINARY
};

struct agon_document {
    const char *address; /* borrowed, like the body */
    enum agon_document_kind kind;
    struct agon_str body;
};
/* By address and content type ("" where unknown), then by a look at the first bytes. */
enum agon_document_kind agon_document_sniff(const char *address, const char *content_type,
                                            struct agon_str body);
const char *agon_document_kind_name(enum agon_document_kind kind);
/* Does the address itself promise data (.csv .tsv .tab .json)? */
bool agon_document_is_data(const char *address);

/* Append what fetch shows (PROTOCOL.md). 0 or <0; a broken document says so in its text. */
int agon_document_render(const struct agon_document *d, struct agon_buf *b,
                         struct agon_err *err) AGON_MUST_USE;

struct agon_table_options {
    const char *format;    /* csv, tsv, json, html; NULL: by kind */
    const char *pointer;   /* json: "" is the whole; NULL: the largest array of objects */
    int number;            /* html: from 1; 0: 1 */
    const char *delimiter; /* one character, "space", "tab", or NULL */
    const char *comment;   /* NULL: "#" where the first line begins with it */
};
/* 0, AGON_TABLE_NONE with the reason in err's text, or <0. */
int agon_document_table(const struct agon_document *d, const struct agon_table_options *o,
                        struct agon_table **ret, struct agon_err *err) AGON_MUST_USE;

/* Title and words for the index: at most 64 KiB of text; for data, a summary: its first columns. */
int agon_document_words(const struct agon_document *d, const struct agon_html *html,
                        struct agon_buf *title, struct agon_buf *text, struct agon_buf *summary,
                        struct agon_err *err) AGON_MUST_USE;
