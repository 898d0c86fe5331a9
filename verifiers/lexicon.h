#pragma once
/*
 * What stands in the texts of a proposal: the numbers and quoted names of a prompt,
 * the numbers and strings of Lua source and of the SQL inside it. Gate 7 holds the two
 * against each other. Only lexing: nothing is compiled or run, so text of any kind is
 * fine (what is no Lua yields whatever tokens it has; other gates refuse it).
 */
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

/* A literal. label: part of a check's name= or text=. compared: the code may compare data with it,
 * so the prompt has to state it; false for SQL text, identifiers, keys, indices, formats,
 * roundings, 0 and 1. */
struct agon_literal {
    bool is_number, label, compared;
    double number; /* absolute value */
    char *text;    /* owned; of a number: as written */
};
struct agon_literals {
    struct agon_literal *items; /* owned */
    size_t n, capacity;
};
void agon_literals_deinit(struct agon_literals *l);

/*
 * The literals of Lua source. identifiers: a JSON object whose keys are names of
 * tables, columns, tools and answer keys (borrowed; NULL: none); a string equal to one
 * is not compared.
 */
int agon_lua_literals(struct agon_literals *ret, struct agon_str source, const json_t *identifiers,
                      struct agon_err *err) AGON_MUST_USE;

enum agon_mention_kind {
    AGON_MENTION_NUMBER, /* 12, 1,200, 3.5, 20%, three; not those inside names such as B12 */
    AGON_MENTION_MOMENT, /* 2025-10-01, 2025-10, 09:30: looked up as text */
    AGON_MENTION_QUOTED, /* 'The Salt Road', "rain", `lent` */
};
/* Something that a prompt states. */
struct agon_mention {
    enum agon_mention_kind kind;
    bool loose;    /* one, both, half, or 2 decimals: it states a number but asks for none */
    bool ordinal;  /* 3rd: the row that an OFFSET 2 takes */
    bool percent;  /* 20%: also 0.2 */
    double number; /* absolute value, of NUMBER */
    char *text;    /* owned; as written, quotes taken off */
};
struct agon_mentions {
    struct agon_mention *items; /* owned */
    size_t n, capacity;
};
void agon_mentions_deinit(struct agon_mentions *m);
int agon_prompt_mentions(struct agon_mentions *ret, struct agon_str prompt,
                         struct agon_err *err) AGON_MUST_USE;

/* Does the prompt state this number (by value, sign left aside)? */
bool agon_mentions_number(const struct agon_mentions *m, double number);

/* Share of word trigrams that two prompts have in common (Jaccard), 0 to 1, letter case and
 * punctuation left aside. <0 when out of memory. */
double agon_prompt_likeness(struct agon_str a, struct agon_str b);
