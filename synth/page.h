#pragma once
/*
 * Pages of a tool result that is longer than the cap (PROTOCOL.md, "Pages").
 */
#include "base/buf.h"
#include "base/str.h"

/* Characters (code points) of a page for a window of so many tokens. */
size_t agon_page_cap(int window_tokens);
/* Append page `page` (from 1) of text. Returns the number of pages; when page is past
 * the last, nothing is appended. */
int agon_page_cut(struct agon_buf *b, struct agon_str text, size_t cap, int page);
