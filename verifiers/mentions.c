/*
 * The prompt's side of lexicon.h: one pass over the text, at each position the first
 * that fits of quoted name, number-like token, word.
 */
#include "verifiers/lexicon.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

enum {
    QUOTED_BYTES_MAX = 80, /* a longer stretch between quotes is a sentence, not a name */
    SHINGLE_WORDS = 3,
};

static const struct {
    const char *word;
    double number;
    bool loose;
} number_words[] = {
    {"two", 2, false},  {"three", 3, false},   {"four", 4, false},    {"five", 5, false},
    {"six", 6, false},  {"seven", 7, false},   {"eight", 8, false},   {"nine", 9, false},
    {"ten", 10, false}, {"eleven", 11, false}, {"twelve", 12, false}, {"one", 1, true},
    {"once", 1, true},  {"twice", 2, true},    {"both", 2, true},     {"double", 2, true},
    {"half", 2, true},  {"half", 0.5, true},
};

/* Opening and closing marks; the single quote is an apostrophe too, see quote_opens(). */
static const struct {
    const char *open, *close;
} quote_marks[] = {{"'", "'"},
                   {"\"", "\""},
                   {"`", "`"},
                   {"\xe2\x80\x9c", "\xe2\x80\x9d"},
                   {"\xe2\x80\x98", "\xe2\x80\x99"}};

void agon_mentions_deinit(struct agon_mentions *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->items[i].text);
    free(m->items);
    *m = (struct agon_mentions){0};
}

/* One more item of this text, or NULL when out of memory. */
static struct agon_mention *mentions_add(struct agon_mentions *m, enum agon_mention_kind kind,
                                         const char *text, size_t size)
{
    if (m->n == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 16;
        struct agon_mention *items = realloc(m->items, capacity * sizeof(*items));
        if (!items)
            return NULL;
        m->items = items;
        m->capacity = capacity;
    }
    struct agon_mention *item = &m->items[m->n];
    *item = (struct agon_mention){.kind = kind, .text = strndup(text, size)};
    if (!item->text)
        return NULL;
    m->n++;
    return item;
}

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static size_t digits_at(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && isdigit((unsigned char)p[n]))
        n++;
    return n;
}

/* 2025-10-01, 2025-10 or 09:30 (seconds allowed): its size, or 0. */
static size_t moment_at(const char *p, const char *end)
{
    size_t n = digits_at(p, end);
    if (n == 4 && p + n < end && p[n] == '-' && digits_at(p + n + 1, end) == 2) {
        n += 3;
        if (p + n < end && p[n] == '-' && digits_at(p + n + 1, end) == 2)
            n += 3;
        return n;
    }
    if ((n == 1 || n == 2) && p + n < end && p[n] == ':' && digits_at(p + n + 1, end) == 2) {
        n += 3;
        if (p + n < end && p[n] == ':' && digits_at(p + n + 1, end) == 2)
            n += 3;
        return n;
    }
    return 0;
}

/* 12, 3.5, 1,200: its size and value. p is at a digit. */
static size_t number_at(const char *p, const char *end, double *ret)
{
    char digits[64];
    size_t n = 0, used = 0;
    size_t run = digits_at(p, end);
    for (;;) {
        for (size_t i = 0; i < run && used < sizeof(digits) - 2; i++)
            digits[used++] = p[n + i];
        n += run;
        /* A comma belongs to the number where groups of three digits follow, and only there. */
        bool grouped = run <= 3 && p + n < end && p[n] == ',' && digits_at(p + n + 1, end) == 3;
        if (!grouped)
            break;
        n++;
        run = 3;
    }
    if (p + n + 1 < end && p[n] == '.' && isdigit((unsigned char)p[n + 1])) {
        run = digits_at(p + n + 1, end);
        if (used < sizeof(digits) - 2)
            digits[used++] = '.';
        for (size_t i = 0; i < run && used < sizeof(digits) - 2; i++)
            digits[used++] = p[n + 1 + i];
        n += 1 + run;
    }
    digits[used] = '\0';
    *ret = strtod(digits, NULL);
    return n;
}

static bool ordinal_at(const char *p, const char *end)
{
    static const char *const endings[] = {"st", "nd", "rd", "th"};
    for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++)
        if (end - p >= 2 && !strncasecmp(p, endings[i], 2) && (end - p == 2 || !is_word_byte(p[2])))
            return true;
    return false;
}

/* A list's "1." at the start of a line numbers the line and says nothing. */
static bool is_list_number(const char *start, const char *p, size_t n, const char *end)
{
    const char *q = p;
    while (q > start && (q[-1] == ' ' || q[-1] == '\t'))
        q--;
    return (q == start || q[-1] == '\n') && p + n + 1 < end && (p[n] == '.' || p[n] == ')') &&
           p[n + 1] == ' ';
}

/* "to 2 decimals": how a number is written, which checks do by scaling and not by comparing. */
static bool counts_places(const char *p, const char *end)
{
    static const char *const words[] = {"decimal", "digit", "significant"};
    if (p == end || (*p != ' ' && *p != '-'))
        return false;
    p++;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(end - p) >= n && !strncasecmp(p, words[i], n))
            return true;
    }
    return false;
}

/* The number-like token at p, a digit; its size in bytes (0: out of memory). */
static size_t mention_digits(struct agon_mentions *m, const char *start, const char *p,
                             const char *end)
{
    size_t n = moment_at(p, end);
    if (n && (p + n == end || !is_word_byte(p[n])))
        return mentions_add(m, AGON_MENTION_MOMENT, p, n) ? n : 0;

    double number;
    n = number_at(p, end, &number);
    bool ordinal = ordinal_at(p + n, end);
    if (!ordinal && p + n < end && is_word_byte(p[n])) { /* part of a name: 7a */
        while (p + n < end && is_word_byte(p[n]))
            n++;
        return n;
    }
    if (is_list_number(start, p, n, end))
        return n;
    struct agon_mention *item = mentions_add(m, AGON_MENTION_NUMBER, p, n);
    if (!item)
        return 0;
    item->number = number;
    item->ordinal = ordinal;
    item->percent = p + n < end && p[n] == '%';
    item->loose = counts_places(p + n, end);
    return n + (ordinal ? 2 : 0);
}

static size_t mention_word(struct agon_mentions *m, const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && is_word_byte(p[n]))
        n++;
    for (size_t i = 0; i < sizeof(number_words) / sizeof(*number_words); i++) {
        if (strlen(number_words[i].word) != n || strncasecmp(p, number_words[i].word, n))
            continue;
        struct agon_mention *item = mentions_add(m, AGON_MENTION_NUMBER, p, n);
        if (!item)
            return 0;
        item->number = number_words[i].number;
        item->loose = number_words[i].loose || counts_places(p + n, end);
    }
    return n;
}

/* Does a quoted name start at p? Its size with both marks, and the name inside. */
static size_t quoted_at(const char *start, const char *p, const char *end,
                        struct agon_str *ret_name)
{
    if (p > start && is_word_byte(p[-1]))
        return 0; /* an apostrophe, or a closing mark */
    for (size_t i = 0; i < sizeof(quote_marks) / sizeof(*quote_marks); i++) {
        size_t open = strlen(quote_marks[i].open), close = strlen(quote_marks[i].close);
        if ((size_t)(end - p) <= open || memcmp(p, quote_marks[i].open, open) ||
            isspace((unsigned char)p[open]))
            continue;
        for (const char *q = p + open; q + close <= end && q - p <= QUOTED_BYTES_MAX && *q != '\n';
             q++) {
            /* Inside 'The Clockmaker's Debt' the mark is followed by a letter. */
            if (memcmp(q, quote_marks[i].close, close) ||
                (q + close < end && isalnum((unsigned char)q[close])))
                continue;
            *ret_name = (struct agon_str){p + open, (size_t)(q - p) - open};
            return ret_name->size ? (size_t)(q - p) + close : 0;
        }
    }
    return 0;
}

int agon_prompt_mentions(struct agon_mentions *ret, struct agon_str prompt, struct agon_err *err)
{
    *ret = (struct agon_mentions){0};
    const char *p = prompt.data, *end = prompt.data + prompt.size;
    while (p < end) {
        struct agon_str name;
        size_t n = quoted_at(prompt.data, p, end, &name);
        if (n) {
            if (!mentions_add(ret, AGON_MENTION_QUOTED, name.data, name.size))
                goto no_memory;
            p += n;
        } else if (isdigit((unsigned char)*p)) {
            if (!(n = mention_digits(ret, prompt.data, p, end)))
                goto no_memory;
            p += n;
        } else if (is_word_byte(*p)) {
            if (!(n = mention_word(ret, p, end)))
                goto no_memory;
            p += n;
        } else {
            p++;
        }
    }
    return 0;

no_memory:
    agon_mentions_deinit(ret);
    return agon_fail(err, AGON_ENOMEM, "prompt: out of memory");
}

static bool mention_states(const struct agon_mention *m, double number)
{
    return m->kind == AGON_MENTION_NUMBER &&
           (m->number == number || (m->percent && m->number == number * 100) ||
            (m->ordinal && m->number == number + 1));
}

bool agon_mentions_number(const struct agon_mentions *m, double number)
{
    for (size_t i = 0; i < m->n; i++) {
        if (mention_states(&m->items[i], number))
            return true;
        /* A name such as 'Route 66' or a date states its digits as well. */
        if (m->items[i].kind == AGON_MENTION_NUMBER)
            continue;
        const char *p = m->items[i].text, *end = p + strlen(p);
        while (p < end) {
            double inside;
            if (!isdigit((unsigned char)*p)) {
                p++;
                continue;
            }
            p += number_at(p, end, &inside);
            if (inside == number)
                return true;
        }
    }
    return false;
}

/* ---- likeness ---- */

struct shingles {
    char **items; /* sorted, distinct, owned */
    size_t n;
};

static void shingles_deinit(struct shingles *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i]);
    free(s->items);
}

static int compare_texts(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Lower-case words of text, at most `max`; each a piece of `copy`. */
static size_t split_words(char *copy, char **words, size_t max)
{
    size_t n = 0;
    for (char *p = copy; *p && n < max;) {
        while (*p && !is_word_byte(*p))
            p++;
        if (!*p)
            break;
        words[n++] = p;
        while (is_word_byte(*p)) {
            *p = (char)tolower((unsigned char)*p);
            p++;
        }
        if (*p)
            *p++ = '\0';
    }
    return n;
}

static int shingles_init(struct shingles *s, struct agon_str text)
{
    *s = (struct shingles){0};
    char *copy = strndup(text.data, text.size);
    size_t max = text.size / 2 + 1;
    char **words = calloc(max, sizeof(*words));
    if (copy && words)
        s->items = calloc(max, sizeof(*s->items));
    size_t n_words = s->items ? split_words(copy, words, max) : 0;
    size_t width = n_words < SHINGLE_WORDS ? 1 : SHINGLE_WORDS;
    int r = s->items ? 0 : AGON_ENOMEM;
    for (size_t i = 0; !r && i + width <= n_words; i++) {
        if (asprintf(&s->items[s->n], "%s %s %s", words[i], width > 1 ? words[i + 1] : "",
                     width > 2 ? words[i + 2] : "") < 0)
            r = AGON_ENOMEM;
        else
            s->n++;
    }
    free(words);
    free(copy);
    if (r)
        return r;
    qsort(s->items, s->n, sizeof(*s->items), compare_texts);
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (kept && !strcmp(s->items[kept - 1], s->items[i]))
            free(s->items[i]);
        else
            s->items[kept++] = s->items[i];
    }
    s->n = kept;
    return 0;
}

double agon_prompt_likeness(struct agon_str a, struct agon_str b)
{
    struct shingles x, y = {0};
    double likeness = -1;
    if (shingles_init(&x, a) == 0 && shingles_init(&y, b) == 0) {
        size_t common = 0;
        for (size_t i = 0, j = 0; i < x.n && j < y.n;) {
            int order = strcmp(x.items[i], y.items[j]);
            common += order == 0;
            i += order <= 0;
            j += order >= 0;
        }
        size_t all = x.n + y.n - common;
        likeness = all ? (double)common / (double)all : 1.0;
    }
    shingles_deinit(&x);
    shingles_deinit(&y);
    return likeness;
}
