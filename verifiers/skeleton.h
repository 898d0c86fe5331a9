#pragma once
/*
 * The shape of a verifier: its text without names, texts and literals. Two verifiers of one
 * shape ask the same kinds of things in the same order. Training writes down the marks of all
 * shapes that its teacher drew (model/train/novelty.py, which does exactly the same), so that a
 * corpus can say how many of its tasks have a shape that the model never saw.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>

/*
 * Long brackets become T, strings v (SQL handed to world: keeps its keywords, its identifiers
 * become x, its literals v), numbers v, fields .x, white space one blank. Lexing only.
 */
void agon_skeleton(struct agon_str verifier, struct agon_buf *ret);

enum { AGON_MARK_BYTES = 5 };
/* The first bytes of the skeleton's SHA-256. A verifier over 1 MiB of shape: AGON_ENOMEM. */
int agon_skeleton_mark(struct agon_str verifier, unsigned char ret[AGON_MARK_BYTES],
                       struct agon_err *err) AGON_MUST_USE;

/*
 * Two checks of a verifier whose code is the same but for names, texts and the property of the answer that each
 * looks at: one question asked twice. Only where the properties hold equal values in `answer` (a right one): checks
 * of a form, such as two properties' types, have the same code and ask different things. Lexing only: false where
 * nothing was found, or the text does not show n_checks checks; else the places of both.
 */
bool agon_checks_repeat(struct agon_str verifier, int n_checks, const json_t *answer, int ret[2]);

/* marks: a file's content, AGON_MARK_BYTES each, in ascending order. */
bool agon_marks_have(struct agon_str marks, const unsigned char mark[AGON_MARK_BYTES]);
