/* What a document is, by its name and a look: see document.h. Taking it apart: document_read.c. */
#include "synth/retrieval/document.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const char *const kind_names[] = {"html", "csv", "tsv", "json", "text", "binary"};

const char *agon_document_kind_name(enum agon_document_kind kind)
{
    return kind_names[kind];
}

/* ---- kinds */

static bool ends_with(const char *address, const char *suffix)
{
    size_t size = strcspn(address, "?#"), n = strlen(suffix);
    return size >= n && strncasecmp(address + size - n, suffix, n) == 0;
}

static bool starts_with(struct agon_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.size >= n && strncasecmp(s.data, prefix, n) == 0;
}

bool agon_document_is_data(const char *address)
{
    return ends_with(address, ".csv") || ends_with(address, ".tsv") || ends_with(address, ".tab") ||
           ends_with(address, ".json");
}

enum agon_document_kind agon_document_sniff(const char *address, const char *content_type,
                                            struct agon_str body)
{
    struct agon_str head = {body.data, body.size < 4096 ? body.size : 4096},
                    type = agon_str(content_type);
    if (head.size && memchr(head.data, '\0', head.size))
        return AGON_DOC_BINARY;
    if (ends_with(address, ".csv") || starts_with(type, "text/csv"))
        return AGON_DOC_CSV;
    if (ends_with(address, ".tsv") || ends_with(address, ".tab") ||
        starts_with(type, "text/tab-separated"))
        return AGON_DOC_TSV;
    if (ends_with(address, ".json") || starts_with(type, "application/json"))
        return AGON_DOC_JSON;
    if (ends_with(address, ".html") || ends_with(address, ".htm") ||
        starts_with(type, "text/html") || starts_with(type, "application/xhtml"))
        return AGON_DOC_HTML;
    while (head.size && isspace((unsigned char)*head.data))
        head.data++, head.size--;
    if (starts_with(head, "<!doctype html") || starts_with(head, "<html"))
        return AGON_DOC_HTML;
    return AGON_DOC_TEXT;
}
