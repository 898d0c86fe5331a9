#pragma once
/*
 * Documents from elsewhere, taken apart in a box: the driver's side of parse_ops.h. It parses no
 * HTML, CSV or JSON of a page, and no robots.txt, itself; what comes back is checked like all that
 * comes out of a box.
 *
 * A parser cell is opened when it is first needed and kept. One that dies, hangs (20 s of
 * processor time on one document) or answers nonsense is replaced, and the document tried once
 * more; then it is AGON_PARSER_LOST, with one sentence in err's text: the document is the
 * culprit, not the run.
 */
#include "base/buf.h"
#include "synth/retrieval/document.h"

struct agon_parser;
struct agon_robots;
struct agon_sandbox;

enum { AGON_PARSER_LOST = 2 }; /* AGON_TABLE_NONE is 1 */

int agon_parser_new(struct agon_parser **ret, struct agon_sandbox *sandbox,
                    struct agon_err *err) AGON_MUST_USE; /* sandbox: borrowed */
void agon_parser_free(struct agon_parser *p);
AGON_DEFINE_FREEP(struct agon_parser, agon_parser_free)

/* Append what fetch shows. 0, AGON_PARSER_LOST or <0. */
int agon_parser_render(struct agon_parser *p, const struct agon_document *d, struct agon_buf *text,
                       struct agon_err *err) AGON_MUST_USE;

/* Title, words and summary for the index, and the links of a page. All borrowed from the parser
 * until its next call. */
struct agon_words {
    const char *title, *summary; /* summary: "" where there is none */
    struct agon_str text;
    int n_links;
    const struct agon_words_link {
        const char *url, *context;
    } * links;
};
/* page: parse the body as HTML; else its bytes are the words. 0, AGON_PARSER_LOST or <0. */
int agon_parser_words(struct agon_parser *p, const struct agon_document *d, bool page,
                      struct agon_words *ret, struct agon_err *err) AGON_MUST_USE;

/* As agon_document_table(): 0, AGON_TABLE_NONE or AGON_PARSER_LOST with the reason in err's text,
 * or <0. */
int agon_parser_table(struct agon_parser *p, const struct agon_document *d,
                      const struct agon_table_options *o, struct agon_table **ret,
                      struct agon_err *err) AGON_MUST_USE;

/* The rules of a robots.txt for this agent ("agon"): 0 with *ret owned by the caller,
 * AGON_PARSER_LOST or <0. */
int agon_parser_robots(struct agon_parser *p, const char *address, struct agon_str text,
                       const char *agent, struct agon_robots **ret,
                       struct agon_err *err) AGON_MUST_USE;
