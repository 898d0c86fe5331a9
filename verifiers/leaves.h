#pragma once
/*
 * The leaves of an answer and what each might have been. A leaf is a scalar of the
 * answer (or of a golden write's arguments). Its domain is what a guesser would draw
 * from: the enumeration of its schema; else the values of the columns that the golden
 * run read and that hold it; else, for a number, a range around it (a computed number),
 * for a boolean both; else only itself.
 */
#include "envs/runtime.h"

/* The distinct values of the columns that a golden run read. */
struct agon_columns {
    json_t *values;     /* owned: {"table.column": [values, sorted]} */
    int64_t n_rows_max; /* of the largest table read */
};
enum { AGON_COLUMN_VALUES_MAX = 4096 }; /* of each column; more are left out, smallest first kept */
void agon_columns_deinit(struct agon_columns *c);
/* names: ["table.column", ...], as in agon_solved. */
int agon_columns_read(struct agon_columns *ret, struct agon_runtime *rt, const json_t *names,
                      struct agon_err *err) AGON_MUST_USE;

enum agon_domain_kind { AGON_DOMAIN_VALUES, AGON_DOMAIN_RANGE };
struct agon_leaf {
    json_t *value; /* shared */
    char *path;    /* owned: "[1].hotel" */
    enum agon_domain_kind kind;
    bool computed;  /* a number that no column holds */
    json_t *values; /* VALUES: owned array, the leaf's own value among them */
    double step;    /* RANGE: n_steps + 1 numbers from 0, this far apart; 1 for integers */
    uint32_t n_steps;
    int decimals; /* of a computed real number as it is written */
};
/*
 * A value with its leaves taken out: segments[0] leaf[0] segments[1] ... is its
 * canonical writing. At most AGON_LEAVES_MAX leaves; the rest stay in the segments.
 */
enum { AGON_LEAVES_MAX = 400 };
struct agon_template {
    struct agon_leaf *leaves;
    int n_leaves;
    char **segments; /* n_leaves + 1, owned */
};
void agon_template_deinit(struct agon_template *t);
/* schema may be NULL (writes' arguments have none of their own). */
int agon_template_init(struct agon_template *ret, const json_t *value, const json_t *schema,
                       const struct agon_columns *columns, struct agon_err *err) AGON_MUST_USE;
/* Decimals of a real as it is written (2.5: 1), at most 6. */
int agon_real_decimals(double value);
/* Rounded as it would be written: 0.1 + 0.2 is no number that anyone submits. New reference. */
json_t *agon_real_rounded(double value, int decimals);
/* How many different fillings there are, at most `most`. */
double agon_template_count(const struct agon_template *t, double most);
/* Value i of a leaf's domain as a new reference, 0 <= i < agon_leaf_count(). */
uint32_t agon_leaf_count(const struct agon_leaf *leaf);
json_t *agon_leaf_value(const struct agon_leaf *leaf, uint32_t i);
/* Write the template with the values at indices (one a leaf; UINT32_MAX: the leaf's own). */
void agon_template_fill(const struct agon_template *t, const uint32_t *indices, struct agon_buf *b);
