#pragma once
/*
 * Writing calls that nobody asked for: each writing tool with arguments drawn from
 * the world's columns of the same name (else of the same type), and the golden
 * writes with one argument drawn anew. Gate 6 makes one of them beside the golden writes.
 */
#include "base/rng.h"
#include "envs/runtime.h"

/* At most n_max distinct calls [{"tool","arguments","of"?}], none of them a golden write; of: the
 * golden write whose argument was drawn anew. New reference; empty where no tool writes. */
int agon_foreign_calls(struct agon_runtime *rt, const json_t *writes, int n_max,
                       struct agon_rng *rng, json_t **ret, struct agon_err *err) AGON_MUST_USE;
