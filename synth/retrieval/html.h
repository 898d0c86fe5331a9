#pragma once
/*
 * What a model needs of an HTML page: title, text, links, tables. libxml2's HTML
 * parser, no network, depth-limited; nothing of the page is executed.
 */
#include "base/buf.h"
#include "synth/retrieval/table.h"

struct agon_link {
    char *url; /* absolute, without fragment; owned */
    char *label;
    char *context; /* text of the row, item or paragraph around it */
};
struct agon_html {
    char *title;
    struct agon_buf text;    /* blocks as lines, white space collapsed */
    struct agon_link *links; /* http and https only, each once, in their order */
    int n_links;
    struct agon_table **tables; /* with at least two columns and one row */
    int n_tables;
};
/* url: address of the page, for relative links. Bytes that are no HTML give an empty page. */
int agon_html_parse(struct agon_html *ret, struct agon_str body, const char *url,
                    struct agon_err *err) AGON_MUST_USE;
void agon_html_deinit(struct agon_html *h);
