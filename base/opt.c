/* Options from a table: see opt.h. */
#include "base/opt.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    OPT_TABLE_MAX = 64,
    OPT_VALUE_FIRST = 256, /* getopt's value of table[0]; beyond any letter */
    OPT_VALUE_HELP = OPT_VALUE_FIRST - 1,
    OPT_HELP_COLUMN_MAX = 28,
};

static int opt_count(const struct agon_opt *table)
{
    int n = 0;
    while (table[n].name)
        n++;
    assert(n <= OPT_TABLE_MAX);
    return n;
}

static void *opt_field(const struct agon_opt *opt, void *options)
{
    return (char *)options + opt->offset;
}

static const void *opt_field_const(const struct agon_opt *opt, const void *options)
{
    return (const char *)options + opt->offset;
}

/* 0 and 0 stand for "any number". */
static bool opt_in_range(const struct agon_opt *opt, double value)
{
    return (opt->min == 0 && opt->max == 0) || (value >= opt->min && value <= opt->max);
}

static int opt_fail(const struct agon_opt *opt, const char *text, struct agon_err *err)
{
    const char *kind = opt->type == AGON_OPT_INT ? "a whole number" : "a number";
    if (opt->min == 0 && opt->max == 0)
        return agon_fail(err, AGON_EINPUT, "--%s: '%s' is not %s", opt->name, text, kind);
    return agon_fail(err, AGON_EINPUT, "--%s: '%s' is not %s from %.15g to %.15g", opt->name, text,
                     kind, opt->min, opt->max);
}

/* strtod() and strtoll() skip spaces and know "inf", "nan" and "0x1p3"; an option does not. */
static bool text_is_decimal(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789+-.eE") == strlen(text);
}

static int opt_set_int(const struct agon_opt *opt, int64_t *field, const char *text,
                       struct agon_err *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!text_is_decimal(text) || *end || errno || !opt_in_range(opt, (double)value))
        return opt_fail(opt, text, err);
    *field = value;
    return 0;
}

static int opt_set_real(const struct agon_opt *opt, double *field, const char *text,
                        struct agon_err *err)
{
    char *end;
    double value = strtod(text, &end);
    if (!text_is_decimal(text) || *end || value - value != 0 || !opt_in_range(opt, value))
        return opt_fail(opt, text, err);
    *field = value;
    return 0;
}

static int opt_add(const struct agon_opt *opt, struct agon_opt_list *list, const char *text,
                   struct agon_err *err)
{
    if (list->n == AGON_OPT_LIST_MAX)
        return agon_fail(err, AGON_EINPUT, "--%s: given over %d times", opt->name,
                         AGON_OPT_LIST_MAX);
    list->items[list->n++] = text;
    return 0;
}

/* text: NULL for a flag */
static int opt_set(const struct agon_opt *opt, void *options, const char *text,
                   struct agon_err *err)
{
    void *field = opt_field(opt, options);
    switch (opt->type) {
    case AGON_OPT_FLAG: *(bool *)field = true; return 0;
    case AGON_OPT_INT: return opt_set_int(opt, field, text, err);
    case AGON_OPT_REAL: return opt_set_real(opt, field, text, err);
    case AGON_OPT_TEXT: *(const char **)field = text; return 0;
    case AGON_OPT_LIST: return opt_add(opt, field, text, err);
    }
    return 0;
}

struct getopt_tables {
    struct option longs[OPT_TABLE_MAX + 2];
    char shorts[2 * OPT_TABLE_MAX + 4];
};

static void getopt_tables_fill(struct getopt_tables *g, const struct agon_opt *table, int n)
{
    char *s = g->shorts;
    *s++ = ':'; /* tell a missing argument from an unknown option */
    for (int i = 0; i < n; i++) {
        bool takes = table[i].type != AGON_OPT_FLAG;
        g->longs[i] = (struct option){table[i].name, takes ? required_argument : no_argument, NULL,
                                      OPT_VALUE_FIRST + i};
        if (table[i].letter) {
            *s++ = table[i].letter;
            if (takes)
                *s++ = ':';
        }
    }
    g->longs[n] = (struct option){"help", no_argument, NULL, OPT_VALUE_HELP};
    g->longs[n + 1] = (struct option){0};
    *s = '\0';
}

static const struct agon_opt *opt_of_value(const struct agon_opt *table, int n, int value)
{
    for (int i = 0; i < n; i++)
        if (value == OPT_VALUE_FIRST + i || (table[i].letter && value == table[i].letter))
            return &table[i];
    return NULL;
}

/* What getopt_long() would have printed, in our words. */
static int getopt_fail(const struct agon_opt *table, int n, int value, char **argv,
                       struct agon_err *err)
{
    const struct agon_opt *opt = opt_of_value(table, n, optopt);
    if (value == ':' && opt)
        return agon_fail(err, AGON_EINPUT, "--%s: needs %s", opt->name,
                         opt->arg ? opt->arg : "a value");
    if (opt || optopt == OPT_VALUE_HELP)
        return agon_fail(err, AGON_EINPUT, "%s: takes no value", argv[optind - 1]);
    if (optopt)
        return agon_fail(err, AGON_EINPUT, "-%c: no such option (see --help)", optopt);
    return agon_fail(err, AGON_EINPUT, "%s: no such option, or one of several (see --help)",
                     argv[optind - 1]);
}

int agon_opt_parse(const struct agon_opt *table, void *options, int argc, char **argv,
                   int *ret_n_args, struct agon_err *err)
{
    int n = opt_count(table);
    struct getopt_tables g;
    getopt_tables_fill(&g, table, n);
    opterr = 0;
    optind = 0; /* glibc: forget an earlier argv altogether */
    for (;;) {
        int value = getopt_long(argc, argv, g.shorts, g.longs, NULL);
        if (value == -1)
            break;
        if (value == OPT_VALUE_HELP)
            return AGON_OPT_HELP;
        const struct agon_opt *opt = opt_of_value(table, n, value);
        if (!opt)
            return getopt_fail(table, n, value, argv, err);
        int r = opt_set(opt, options, optarg, err);
        if (r)
            return r;
    }
    int n_args = argc - optind; /* getopt has moved them to the end */
    memmove(argv + 1, argv + optind, (size_t)n_args * sizeof(*argv));
    *ret_n_args = n_args;
    return 0;
}

static int opt_load_list(const struct agon_opt *opt, struct agon_opt_list *list,
                         const json_t *value, struct agon_err *err)
{
    struct agon_opt_list items = {0};
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *item = json_string_value(json_array_get(value, i));
        if (!item)
            return agon_fail(err, AGON_EINPUT, "\"%s\": not a list of strings", opt->name);
        int r = opt_add(opt, &items, item, err);
        if (r)
            return r;
    }
    *list = items;
    return 0;
}

static int opt_load_one(const struct agon_opt *opt, void *options, const json_t *value,
                        struct agon_err *err)
{
    void *field = opt_field(opt, options);
    double number = json_number_value(value);
    if (opt->type == AGON_OPT_FLAG && json_is_boolean(value))
        *(bool *)field = json_is_true(value);
    else if (opt->type == AGON_OPT_INT && json_is_integer(value) && opt_in_range(opt, number))
        *(int64_t *)field = json_integer_value(value);
    else if (opt->type == AGON_OPT_REAL && json_is_number(value) && opt_in_range(opt, number))
        *(double *)field = number;
    else if (opt->type == AGON_OPT_TEXT && json_is_string(value))
        *(const char **)field = json_string_value(value);
    else if (opt->type == AGON_OPT_TEXT && json_is_null(value))
        *(const char **)field = NULL;
    else if (opt->type == AGON_OPT_LIST && json_is_array(value))
        return opt_load_list(opt, field, value, err);
    else
        return agon_fail(err, AGON_EINPUT, "\"%s\": wrong type, or out of range", opt->name);
    return 0;
}

int agon_opt_load(const struct agon_opt *table, void *options, const json_t *object,
                  struct agon_err *err)
{
    if (!json_is_object(object))
        return agon_fail(err, AGON_EINPUT, "options: not a JSON object");
    size_t n_known = 0;
    for (const struct agon_opt *opt = table; opt->name; opt++) {
        const json_t *value = json_object_get(object, opt->name);
        if (!value)
            continue;
        n_known++;
        int r = opt_load_one(opt, options, value, err);
        if (r)
            return r;
    }
    if (n_known < json_object_size(object))
        return agon_fail(err, AGON_EINPUT, "options: %zu unknown keys",
                         json_object_size(object) - n_known);
    return 0;
}

static void opt_add_default(struct agon_buf *b, const struct agon_opt *opt, const void *defaults)
{
    const void *field = opt_field_const(opt, defaults);
    switch (opt->type) {
    case AGON_OPT_FLAG: agon_buf_adds(b, *(const bool *)field ? " (on)" : ""); break;
    case AGON_OPT_INT: agon_buf_addf(b, " (%lld)", (long long)*(const int64_t *)field); break;
    case AGON_OPT_REAL: agon_buf_addf(b, " (%g)", *(const double *)field); break;
    case AGON_OPT_TEXT:
        if (*(const char *const *)field)
            agon_buf_addf(b, " (%s)", *(const char *const *)field);
        break;
    case AGON_OPT_LIST: agon_buf_adds(b, " (may be repeated)"); break;
    }
}

/* "  -j, --threads N"; the width printed */
static int opt_left(char *text, size_t size, const struct agon_opt *opt)
{
    char letter[8] = "    ";
    if (opt->letter)
        snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
    const char *arg = opt->type == AGON_OPT_FLAG ? NULL : opt->arg ? opt->arg : "VALUE";
    return snprintf(text, size, "  %s--%s%s%s", letter, opt->name, arg ? " " : "", arg ? arg : "");
}

static void opt_help_line(struct agon_buf *b, const struct agon_opt *opt, int column,
                          const void *defaults)
{
    char left[128];
    int width = opt_left(left, sizeof(left), opt);
    agon_buf_adds(b, left);
    if (width > column)
        agon_buf_addf(b, "\n%*s", column, "");
    else
        agon_buf_addf(b, "%*s", column - width, "");
    agon_buf_addf(b, "  %s", opt->help);
    if (defaults)
        opt_add_default(b, opt, defaults);
    agon_buf_addc(b, '\n');
}

void agon_opt_help(struct agon_buf *b, const struct agon_opt *table, const void *defaults,
                   const char *usage, const char *about)
{
    static const struct agon_opt help = {.name = "help", .help = "show this text"};
    int column = 0;
    for (const struct agon_opt *opt = table; opt->name; opt++) {
        int width = opt_left((char[128]){0}, 128, opt);
        if (width > column && width <= OPT_HELP_COLUMN_MAX)
            column = width;
    }
    agon_buf_addf(b, "%s\n%s%s\n", usage, about, about[0] ? "\n" : "");
    for (const struct agon_opt *opt = table; opt->name; opt++)
        opt_help_line(b, opt, column, defaults);
    opt_help_line(b, &help, column, NULL);
}

static json_t *opt_to_json(const struct agon_opt *opt, const void *options)
{
    const void *field = opt_field_const(opt, options);
    switch (opt->type) {
    case AGON_OPT_FLAG: return json_boolean(*(const bool *)field);
    case AGON_OPT_INT: return json_integer(*(const int64_t *)field);
    case AGON_OPT_REAL: return json_real(*(const double *)field);
    case AGON_OPT_TEXT: {
        const char *text = *(const char *const *)field;
        return text ? json_string(text) : json_null();
    }
    case AGON_OPT_LIST: {
        const struct agon_opt_list *list = field;
        json_t *array = json_array();
        for (int i = 0; i < list->n; i++)
            if (json_array_append_new(array, json_string(list->items[i]))) {
                json_decref(array);
                return NULL;
            }
        return array;
    }
    }
    return NULL;
}

json_t *agon_opt_dump(const struct agon_opt *table, const void *options)
{
    json_t *object = json_object();
    for (const struct agon_opt *opt = table; opt->name; opt++)
        if (json_object_set_new(object, opt->name, opt_to_json(opt, options))) {
            json_decref(object);
            return NULL;
        }
    return object;
}
