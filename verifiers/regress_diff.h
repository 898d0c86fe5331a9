#pragma once
/* Where two JSON values first differ, for people: "answer.hotels[2].price". */
#include "base/buf.h"

#include <jansson.h>

/*
 * False: they are equal (1 and 1.0 are not). Else the first place in order of the expected value's
 * keys and indices is appended to path, which holds the name of the whole ("answer"), and what
 * stands there to expected and got: JSON, cut to a line; "nothing" where a key or an item is
 * missing. Of lists that differ in length the first item that differs is named.
 */
bool agon_regress_diff(const json_t *expected, const json_t *got, struct agon_buf *path,
                       struct agon_buf *ret_expected, struct agon_buf *ret_got);
/* The same of texts: "line 3" is appended to path, and the lines. */
bool agon_regress_diff_text(struct agon_str expected, struct agon_str got, struct agon_buf *path,
                            struct agon_buf *ret_expected, struct agon_buf *ret_got);
