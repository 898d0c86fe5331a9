/* See check.h. */
#include "model/check.h"

#include "model/layout.h"
#include "model/safetensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct checker {
    const struct agon_layout *layout;
    const struct agon_tensors *tensors;
    bool *known; /* [tensors]: expected */
    void (*fn)(void *user, const char *problem);
    void *user;
    struct agon_check *result;
};

static void problem(struct checker *c, const char *fmt, ...) AGON_PRINTF(2, 3);
static void problem(struct checker *c, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* names are bounded; cut where too long */
    va_end(ap);
    c->result->n_problems++;
    c->fn(c->user, text);
}

static const struct agon_tensor *take(struct checker *c, const char *name)
{
    const struct agon_tensor *t = agon_tensors_find(c->tensors, name);
    if (t)
        c->known[t - agon_tensors_at(c->tensors, 0)] = true;
    return t;
}

static void shape_check(struct checker *c, const struct agon_tensor *t, int n, int k)
{
    char shape[128];
    bool good = k > 0 ? t->n_dims == 2 && t->dims[0] == n && t->dims[1] == k
                      : t->n_dims == 1 && t->dims[0] == n;
    if (good)
        return;
    agon_tensor_shape(t, shape, sizeof(shape));
    if (k > 0)
        problem(c, "%s: '%s' is %s, config.json makes it [%d, %d]",
                agon_tensors_file(c->tensors, t), t->name, shape, n, k);
    else
        problem(c, "%s: '%s' is %s, config.json makes it [%d]", agon_tensors_file(c->tensors, t),
                t->name, shape, n);
}

static void dtype_problem(struct checker *c, const struct agon_tensor *t, const char *expected)
{
    problem(c, "%s: '%s' is %s, expected %s", agon_tensors_file(c->tensors, t), t->name,
            t->readable ? agon_dtype_name(t->dtype) : "of a dtype of no weight", expected);
}

/* The scales of an FP8 matrix: one for each block of 128 by 128, the last ones partial. */
static void scale_check(struct checker *c, const struct agon_tensor *t,
                        const struct agon_expected *expected)
{
    char name[600];
    (void)snprintf(name, sizeof(name), "%s_scale_inv", t->name); /* longer ones are not found */
    const struct agon_tensor *scale = take(c, name);
    if (!scale) {
        problem(c, "%s: '%s' is F8_E4M3 without '%s'", agon_tensors_file(c->tensors, t), t->name,
                name);
        return;
    }
    shape_check(c, scale, (expected->n + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK,
                (expected->k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK);
    if (!scale->readable || scale->dtype != AGON_F32)
        dtype_problem(c, scale, "F32");
    c->result->n_scales += scale->size / sizeof(float);
}

static int expected_check(void *user, const struct agon_expected *expected)
{
    struct checker *c = user;
    const struct agon_tensor *t = take(c, expected->name);
    bool fp8 = t && t->readable && t->dtype == AGON_E4M3;
    if (!t) {
        if (!expected->optional)
            problem(c, "'%s' is missing", expected->name);
        return 0;
    }
    int layer;
    uint64_t n = (uint64_t)expected->n * (uint64_t)(expected->k ? expected->k : 1);
    c->result->n_parameters += n;
    if (sscanf(expected->name, "model.layers.%d.", &layer) == 1 &&
        layer >= c->layout->config.n_layers)
        c->result->n_predict += n;
    shape_check(c, t, expected->n, expected->k);
    if (fp8 && expected->kind == AGON_KIND_MATRIX && c->layout->config.fp8)
        scale_check(c, t, expected);
    else if (fp8)
        dtype_problem(c, t, "BF16, F16 or F32");
    else if (!t->readable)
        dtype_problem(c, t,
                      c->layout->config.fp8 && expected->kind == AGON_KIND_MATRIX
                          ? "F8_E4M3, BF16, F16 or F32"
                          : "BF16, F16 or F32");
    return 0;
}

/* What nothing expects: another model's part, or scales without a matrix to scale. */
static void extras_check(struct checker *c)
{
    for (size_t i = 0; i < agon_tensors_count(c->tensors); i++) {
        const struct agon_tensor *t = agon_tensors_at(c->tensors, i);
        if (!c->known[i])
            problem(c, "%s: '%s' is no tensor of a %s with this config.json",
                    agon_tensors_file(c->tensors, t), t->name, c->layout->config.model_type);
    }
}

static void result_fill(const struct agon_tensors *tensors, struct agon_check *ret)
{
    size_t n = agon_tensors_count(tensors);
    ret->n_tensors = n;
    ret->bytes = agon_tensors_bytes(tensors);
    for (size_t i = 0; i < n; i++) {
        int file = agon_tensors_at(tensors, i)->file;
        ret->n_files = file + 1 > ret->n_files ? file + 1 : ret->n_files;
    }
}

int agon_check(const char *dir, void (*fn)(void *user, const char *problem), void *user,
               struct agon_check *ret, struct agon_err *err)
{
    struct agon_layout layout;
    struct agon_tensors *tensors AGON_AUTO(agon_tensors_freep) = NULL;
    struct agon_check result = {0};
    int r;
    if ((r = agon_layout_load(&layout, dir, err)) || (r = agon_tensors_open(&tensors, dir, err)))
        return r;
    struct checker c = {.layout = &layout,
                        .tensors = tensors,
                        .known = calloc(agon_tensors_count(tensors) + 1, sizeof(bool)),
                        .fn = fn,
                        .user = user,
                        .result = &result};
    if (!c.known)
        return agon_fail(err, AGON_ENOMEM, "check: out of memory");
    (void)agon_layout_each(&layout, expected_check, &c); /* ends early never */
    extras_check(&c);
    free(c.known);
    result_fill(tensors, &result);
    *ret = result;
    return 0;
}
