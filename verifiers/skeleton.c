#include "verifiers/skeleton.h"

#include "base/json.h"
#include "base/sha256.h"

#include <string.h>

enum { SKELETON_BYTES_MAX = 1 << 20, LOOK_BACK = 80 };

/* ctype.h follows the locale; these are ASCII. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t white_size(struct agon_str s)
{
    size_t n = 0;
    while (n < s.size && is_white(s.data[n]))
        n++;
    return n;
}

static size_t word_size(struct agon_str s)
{
    size_t n = 0;
    while (n < s.size && (is_letter(s.data[n]) || (n && is_digit(s.data[n]))))
        n++;
    return n;
}

static size_t number_size(struct agon_str s)
{
    size_t n = 0;
    while (n < s.size && is_digit(s.data[n]))
        n++;
    if (n == 0 || n + 1 >= s.size || s.data[n] != '.' || !is_digit(s.data[n + 1]))
        return n;
    for (n++; n < s.size && is_digit(s.data[n]);)
        n++;
    return n;
}

/* A quoted string with its quotes, which the first byte is; 0 where it does not end. */
static size_t string_size(struct agon_str s)
{
    for (size_t i = 1; i < s.size && s.data[i] != '\n'; i++) {
        if (s.data[i] == *s.data)
            return i + 1;
        i += s.data[i] == '\\';
    }
    return 0;
}

static size_t long_size(struct agon_str s)
{
    if (s.size < 4 || s.data[1] != '[')
        return 0;
    const char *end = memmem(s.data + 2, s.size - 2, "]]", 2);
    return end ? (size_t)(end - s.data) + 2 : 0;
}

static bool is_sql_word(struct agon_str w)
{
    static const char words[] =
        " SELECT FROM WHERE ORDER BY DESC ASC LIMIT OFFSET COUNT SUM ROUND AVG MAX MIN LENGTH"
        " DISTINCT AND OR IS NOT NULL LIKE GROUP IN COALESCE AS JOIN ON HAVING BETWEEN CASE WHEN"
        " THEN ELSE END UNION ALL EXISTS SUBSTR ABS ";
    for (const char *p = words; (p = memmem(p, strlen(p), w.data, w.size)); p++)
        if (p[-1] == ' ' && p[w.size] == ' ')
            return true;
    return false;
}

static void add_sql(struct agon_buf *b, struct agon_str s)
{
    size_t n;
    for (; s.size; s = agon_str_from(s, n)) {
        const char *quote = *s.data == '\'' ? memchr(s.data + 1, '\'', s.size - 1) : NULL;
        if (quote) {
            n = (size_t)(quote - s.data) + 1;
            agon_buf_addc(b, 'v');
        } else if ((n = number_size(s))) {
            agon_buf_addc(b, 'v');
        } else if ((n = white_size(s))) {
            agon_buf_addc(b, ' ');
        } else if ((n = word_size(s))) {
            struct agon_str word = {s.data, n};
            if (is_sql_word(word))
                agon_buf_add_str(b, word);
            else
                agon_buf_addc(b, 'x');
        } else {
            agon_buf_addc(b, s.data[(n = 1) - 1]);
        }
    }
}

/* Does b end in "world:NAME("? Then a string that follows is SQL. */
static bool ends_in_call(const struct agon_buf *b)
{
    size_t least = b->size > LOOK_BACK ? b->size - LOOK_BACK : 0, at = b->size;
    if (at == least || b->data[--at] != '(')
        return false;
    size_t end = at;
    while (at > least && (is_letter(b->data[at - 1]) || is_digit(b->data[at - 1])))
        at--;
    return at < end && at - least >= 6 && memcmp(b->data + at - 6, "world:", 6) == 0;
}

void agon_skeleton(struct agon_str s, struct agon_buf *b)
{
    size_t n;
    s = agon_str_from(s, white_size(s));
    while (s.size && is_white(s.data[s.size - 1]))
        s.size--;
    for (; s.size; s = agon_str_from(s, n)) {
        if (*s.data == '[' && (n = long_size(s))) {
            agon_buf_addc(b, 'T');
        } else if (*s.data == '"' && (n = string_size(s))) {
            if (ends_in_call(b))
                add_sql(b, (struct agon_str){s.data + 1, n - 2});
            else
                agon_buf_addc(b, 'v');
        } else if ((n = number_size(s))) {
            agon_buf_addc(b, 'v');
        } else if ((n = white_size(s))) {
            agon_buf_addc(b, ' ');
        } else if ((n = word_size(s))) {
            if (b->size && b->data[b->size - 1] == '.')
                agon_buf_addc(b, 'x');
            else
                agon_buf_add(b, s.data, n);
        } else {
            agon_buf_addc(b, s.data[(n = 1) - 1]);
        }
    }
}

/* ---- a question asked twice ------------------------------------------------------ */

enum { CHECKS_MAX = 64, PROPERTY_BYTES = 128 };

/* A check's code with white space, comments, its name, text and property taken out. */
struct check_code {
    struct agon_buf text;
    char property[PROPERTY_BYTES]; /* the first that it looks at, or "" */
};

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

static bool word_is(struct agon_str s, const char *word)
{
    return word_size(s) == strlen(word) && memcmp(s.data, word, strlen(word)) == 0;
}

/* A comment up to its line's end; long ones are rare enough to be taken for code. */
static size_t comment_size(struct agon_str s)
{
    if (s.size < 2 || s.data[0] != '-' || s.data[1] != '-')
        return 0;
    const char *end = memchr(s.data, '\n', s.size);
    return end ? (size_t)(end - s.data) : s.size;
}

/* "check {" or "check("? */
static bool check_begins(struct agon_str s)
{
    if (!word_is(s, "check"))
        return false;
    s = agon_str_from(s, 5);
    s = agon_str_from(s, white_size(s));
    return s.size && (*s.data == '{' || *s.data == '(');
}

/* The word that follows "answer.": the first is remembered and left out wherever it stands. */
static void add_property(struct check_code *c, struct agon_str word)
{
    if (!c->property[0] && word.size < PROPERTY_BYTES)
        memcpy(c->property, word.data, word.size);
    if (!agon_str_equal(word, agon_str(c->property)))
        agon_buf_add_str(&c->text, word);
}

static bool ends_in_answer(const struct agon_buf *b)
{
    static const char answer[] = " answer .";
    size_t n = strlen(answer);
    return b->size >= n && memcmp(b->data + b->size - n, answer, n) == 0;
}

static size_t add_token(struct check_code *c, struct agon_str s)
{
    size_t n;
    if ((n = white_size(s)) || (n = comment_size(s)))
        return n;
    if (!(*s.data == '[' && (n = long_size(s))) && !(is_quote(*s.data) && (n = string_size(s))) &&
        !(n = number_size(s)) && !(n = word_size(s)))
        n = 1;
    bool property = ends_in_answer(&c->text) && word_size(s);
    agon_buf_addc(&c->text, ' ');
    if (property)
        add_property(c, (struct agon_str){s.data, n});
    else
        agon_buf_add(&c->text, s.data, n);
    return n;
}

/* `name = "..."` and `text = [[...]]` of a check, which differ by design. */
static size_t label_size(struct agon_str s)
{
    if (!word_is(s, "name") && !word_is(s, "text"))
        return 0;
    struct agon_str rest = agon_str_from(s, 4);
    rest = agon_str_from(rest, white_size(rest));
    if (!rest.size || *rest.data != '=')
        return 0;
    rest = agon_str_from(rest, 1);
    rest = agon_str_from(rest, white_size(rest));
    size_t n = !rest.size             ? 0
               : is_quote(*rest.data) ? string_size(rest)
               : *rest.data == '['    ? long_size(rest)
                                      : 0;
    return n ? (size_t)(rest.data - s.data) + n : 0;
}

static int codes_of(struct agon_str s, struct check_code codes[CHECKS_MAX])
{
    int at = -1;
    for (size_t n; s.size; s = agon_str_from(s, n)) {
        if (check_begins(s) && at + 1 < CHECKS_MAX)
            codes[++at].text = (struct agon_buf)AGON_BUF(SKELETON_BYTES_MAX);
        if (at < 0) /* what stands before the first check */
            n = (n = white_size(s)) || (n = comment_size(s)) || (n = word_size(s)) ? n : 1;
        else if (!(n = label_size(s)))
            n = add_token(&codes[at], s);
    }
    return at + 1;
}

static bool codes_equal(const struct check_code *a, const struct check_code *b,
                        const json_t *answer)
{
    if (a->text.size != b->text.size || a->text.failed || b->text.failed ||
        memcmp(a->text.data, b->text.data, a->text.size) != 0)
        return false;
    const json_t *x = json_object_get(answer, a->property);
    const json_t *y = json_object_get(answer, b->property);
    return strcmp(a->property, b->property) == 0 || (x && y && json_equal(x, y));
}

bool agon_checks_repeat(struct agon_str verifier, int n_checks, const json_t *answer, int ret[2])
{
    struct check_code codes[CHECKS_MAX] = {0};
    int n = codes_of(verifier, codes);
    bool found = false;
    for (int b = 1; b < n && n == n_checks && !found; b++)
        for (int a = 0; a < b && !found; a++)
            if ((found = codes_equal(&codes[a], &codes[b], answer))) {
                ret[0] = a;
                ret[1] = b;
            }
    for (int i = 0; i < n; i++)
        agon_buf_deinit(&codes[i].text);
    return found;
}

static int digit(char c)
{
    return is_digit(c) ? c - '0' : c - 'a' + 10;
}

int agon_skeleton_mark(struct agon_str verifier, unsigned char ret[AGON_MARK_BYTES],
                       struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(SKELETON_BYTES_MAX);
    char hex[AGON_SHA256_HEX];
    agon_skeleton(verifier, &b);
    int r = agon_buf_check(&b, "the shape of a verifier", err);
    if (r)
        return r;
    agon_sha256_of(agon_buf_str(&b), hex);
    for (int i = 0; i < AGON_MARK_BYTES; i++)
        ret[i] = (unsigned char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    return 0;
}

bool agon_marks_have(struct agon_str marks, const unsigned char mark[AGON_MARK_BYTES])
{
    size_t low = 0, high = marks.size / AGON_MARK_BYTES;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = memcmp(marks.data + middle * AGON_MARK_BYTES, mark, AGON_MARK_BYTES);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}
