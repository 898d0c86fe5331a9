/* Files and writing: see json.h. The reader is json_parse.c, the rewriter of texts json_rewrite.c.
 */
#include "base/json.h"

#include "base/file.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_TEXT_MAX = 40 };

int agon_json_load_file(json_t **ret, const char *path, size_t size_max, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(size_max);
    int r = agon_file_read(&b, path, size_max, err);
    if (r)
        return r;
    r = agon_json_parse(ret, agon_buf_str(&b), err);
    return r ? agon_err_in(err, r, "%s", path) : 0;
}

void agon_json_dump_string(struct agon_buf *b, struct agon_str s)
{
    agon_buf_addc(b, '"');
    size_t plain = 0; /* start of the bytes not yet written */
    for (size_t pos = 0; pos < s.size;) {
        size_t at = pos;
        int32_t c = agon_utf8_next(s, &pos);
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        agon_buf_add(b, s.data + plain, at - plain);
        plain = pos;
        static const char names[] = "btn\0fr"; /* from U+0008 on; \v has no short form */
        if (c < 0)
            agon_buf_adds(b, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\')
            agon_buf_addf(b, "\\%c", (char)c);
        else if (c >= '\b' && c <= '\r' && names[c - '\b'])
            agon_buf_addf(b, "\\%c", names[c - '\b']);
        else
            agon_buf_addf(b, "\\u%04x", (unsigned)c);
    }
    agon_buf_add(b, s.data + plain, s.size - plain);
    agon_buf_addc(b, '"');
}

/* "1.95e+01" -> "1.96e+01": the next decimal of the same length, away from zero.
 * False on a carry out of the first digit. */
static bool decimal_step(char *text)
{
    for (char *p = strchr(text, 'e') - 1; p >= text && *p != '-'; p--) {
        if (*p == '.')
            continue;
        if (*p != '9') {
            ++*p;
            return true;
        }
        *p = '0';
    }
    return false;
}

/* The shortest decimal that reads back as value, in the form of %e. Above a power
 * of two doubles lie twice as far apart as below it, so there the shortest may
 * be the neighbour above of the nearest one. */
static void real_shortest(char text[REAL_TEXT_MAX], double value)
{
    int exponent;
    bool power_of_two = fabs(frexp(value, &exponent)) == 0.5;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, REAL_TEXT_MAX, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value ||
            (power_of_two && decimal_step(text) && strtod(text, NULL) == value))
            return;
    }
}

/*
 * Decimals of at most four places and 15 digits, which most numbers of tables are: value is n /
 * 10^k exactly as the division rounds, so reading n / 10^k gives value again, and no shorter one
 * does.
 */
static bool dump_short_real(struct agon_buf *b, double value)
{
    static const double tens[] = {1, 10, 100, 1000, 10000};
    double size = fabs(value);
    if (size >= 1e11 || (size < 1e-3 && size > 0))
        return false;
    for (int k = 0; k < 5; k++) {
        int64_t n = (int64_t)(size * tens[k] + 0.5);
        if ((double)n / tens[k] != size)
            continue;
        char text[32], *at = text + sizeof(text);
        int places = k ? k : 1;
        if (k == 0)
            n *= 10;
        for (int i = 0; i < places || n > 0 || i == places; i++) {
            if (i == places)
                *--at = '.';
            *--at = (char)('0' + n % 10);
            n /= 10;
        }
        if (signbit(value))
            *--at = '-';
        agon_buf_add(b, at, (size_t)(text + sizeof(text) - at));
        return true;
    }
    return false;
}

void agon_json_dump_real(struct agon_buf *b, double value)
{
    if (!isfinite(value)) {
        agon_buf_adds(b, "null");
        return;
    }
    if (dump_short_real(b, value))
        return;
    char text[REAL_TEXT_MAX];
    real_shortest(text, value);
    char *e = strchr(text, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    *e = '\0';
    if (exponent < -4 || exponent >= 16) {
        agon_buf_addf(b, "%se%c%02d", text, exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    const char *sign = text[0] == '-' ? "-" : "";
    char digits[REAL_TEXT_MAX];
    int n = 0;
    for (const char *p = text; *p; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    if (exponent < 0) /* 0.000ddd */
        agon_buf_addf(b, "%s0.%.*s%.*s", sign, -exponent - 1, "000", n, digits);
    else if (n <= exponent + 1) /* ddd000.0 */
        agon_buf_addf(b, "%s%.*s%.*s.0", sign, n, digits, exponent + 1 - n, "0000000000000000");
    else
        agon_buf_addf(b, "%s%.*s.%.*s", sign, exponent + 1, digits, n - exponent - 1,
                      digits + exponent + 1);
}

static void json_dump_value(struct agon_buf *b, const json_t *value, bool sorted, int depth);

/* json_object_iter() takes no const although it changes nothing. */
static json_t *json_unconst(const json_t *value)
{
    union {
        const json_t *in;
        json_t *out;
    } u = {value};
    return u.out;
}

static void json_dump_member(struct agon_buf *b, const char *key, const json_t *value, bool sorted,
                             int depth)
{
    agon_json_dump_string(b, agon_str(key));
    agon_buf_adds(b, ": ");
    json_dump_value(b, value, sorted, depth);
}

static int key_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void json_dump_object_sorted(struct agon_buf *b, const json_t *object, int depth)
{
    size_t n = json_object_size(object);
    const char **keys = calloc(n + 1, sizeof(*keys));
    if (!keys) {
        b->failed = b->failed ? b->failed : AGON_ENOMEM;
        return;
    }
    size_t i = 0;
    json_t *o = json_unconst(object);
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it))
        keys[i++] = json_object_iter_key(it);
    qsort(keys, n, sizeof(*keys), key_order);
    for (i = 0; i < n; i++) {
        agon_buf_adds(b, i ? ", " : "");
        json_dump_member(b, keys[i], json_object_get(object, keys[i]), true, depth);
    }
    free(keys);
}

static void json_dump_object(struct agon_buf *b, const json_t *object, bool sorted, int depth)
{
    agon_buf_addc(b, '{');
    if (sorted) {
        json_dump_object_sorted(b, object, depth);
    } else {
        json_t *o = json_unconst(object);
        const char *comma = "";
        for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
            agon_buf_adds(b, comma);
            json_dump_member(b, json_object_iter_key(it), json_object_iter_value(it), false, depth);
            comma = ", ";
        }
    }
    agon_buf_addc(b, '}');
}

static void json_dump_array(struct agon_buf *b, const json_t *array, bool sorted, int depth)
{
    agon_buf_addc(b, '[');
    for (size_t i = 0; i < json_array_size(array); i++) {
        agon_buf_adds(b, i ? ", " : "");
        json_dump_value(b, json_array_get(array, i), sorted, depth);
    }
    agon_buf_addc(b, ']');
}

static void json_dump_value(struct agon_buf *b, const json_t *value, bool sorted, int depth)
{
    /* Twice the parser's limit: parsed values may be wrapped in values of our own. */
    assert(depth < 2 * AGON_JSON_DEPTH_MAX);
    switch (json_typeof(value)) {
    case JSON_OBJECT: json_dump_object(b, value, sorted, depth + 1); break;
    case JSON_ARRAY: json_dump_array(b, value, sorted, depth + 1); break;
    case JSON_STRING:
        agon_json_dump_string(
            b, (struct agon_str){json_string_value(value), json_string_length(value)});
        break;
    case JSON_INTEGER: agon_buf_addf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL: agon_json_dump_real(b, json_real_value(value)); break;
    case JSON_TRUE: agon_buf_adds(b, "true"); break;
    case JSON_FALSE: agon_buf_adds(b, "false"); break;
    case JSON_NULL: agon_buf_adds(b, "null"); break;
    }
}

static void json_dump_top(struct agon_buf *b, const json_t *value, bool sorted)
{
    if (value)
        json_dump_value(b, value, sorted, 0);
    else if (!b->failed)
        b->failed = AGON_ENOMEM;
}

void agon_json_dump(struct agon_buf *b, const json_t *value)
{
    json_dump_top(b, value, false);
}

void agon_json_dump_sorted(struct agon_buf *b, const json_t *value)
{
    json_dump_top(b, value, true);
}

bool agon_json_array_has(const json_t *array, const json_t *value)
{
    size_t i;
    json_t *one;
    json_array_foreach(array, i, one) if (json_equal(one, value)) return true;
    return false;
}

const char *agon_json_text(const json_t *object, const char *key, const char *dflt)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : dflt;
}
