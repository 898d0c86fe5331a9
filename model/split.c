/*
 * Cutting text with the pre-tokenizer's patterns (PCRE2 with Unicode properties). Each pattern
 * sees the piece alone, so a piece's end is the end of text to it: that is how the tokenizers
 * library works, and ids depend on it.
 *
 * A pattern may come from anyone, and PCRE2 limits what one match costs but not how many starts of
 * a search fail: (?:a|b)*c on a megabyte of a's would take an hour. So a search tries a window of
 * starts at a time, and between windows looks whether the whole text still has time.
 *
 * NEEDSWORK: PCRE2's \s holds U+180E, which lost White_Space in Unicode 6.3.
 */
#include "model/tokenizer_internal.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

enum {
    /* A megabyte of blanks before a letter backtracks once a byte; this is far above. */
    MATCH_LIMIT = 100 * 1000 * 1000,
    JIT_STACK_FIRST = 32 << 10,
    JIT_STACK_MAX = 8 << 20,
    WINDOW_WORK = 1 << 24, /* starts times bytes that each may look at: some 100 ms at worst */
    SEARCHES_UNWATCHED = 16,
    /* A megabyte takes some 200 ms with the patterns in use. */
    TEXT_S = 5,
    MEGABYTE_S = 20,
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* both clocks are there */
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* What a window of starts would change the meaning of: \G (the start of the search), and verbs
 * like (*COMMIT), which also lift limits. The tokenizers library's patterns have neither. */
static const char *pattern_unfit(const char *pattern)
{
    for (const char *at = pattern; *at; at++) {
        if (at[0] == '\\' && at[1] == 'G')
            return "\\G";
        if (at[0] == '(' && at[1] == '*' && isupper((unsigned char)at[2]))
            return "(*VERB)";
        at += at[0] == '\\' && at[1];
    }
    return NULL;
}

int split_init(struct split *s, const char *pattern, bool literal, enum split_behaviour behaviour,
               bool invert, struct agon_err *err)
{
    if (strlen(pattern) > PATTERN_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "pattern over %d bytes", PATTERN_BYTES_MAX);
    const char *unfit = literal ? NULL : pattern_unfit(pattern);
    if (unfit)
        return agon_fail(err, AGON_EINPUT, "pattern '%.100s': %s is not supported", pattern, unfit);
    uint32_t options = PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT |
                       (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
    int code;
    PCRE2_SIZE at;
    *s = (struct split){.behaviour = behaviour, .invert = invert};
    s->code = pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern), options, &code, &at, NULL);
    if (!s->code) {
        PCRE2_UCHAR text[128];
        (void)pcre2_get_error_message(code, text, sizeof(text)); /* cut short is fine */
        return agon_fail(err, AGON_EINPUT, "pattern '%.100s': %s at byte %zu", pattern,
                         (const char *)text, at);
    }
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* without it, matching is slower */
    return 0;
}

void split_deinit(struct split *s)
{
    pcre2_code_free(s->code);
    s->code = NULL;
}

int split_work_init(struct split_work *w, size_t text_size, struct agon_err *err)
{
    *w = (struct split_work){.text_size = text_size};
    w->ns_max = (TEXT_S + (int64_t)(text_size >> 20) * MEGABYTE_S) * INT64_C(1000000000);
    w->wall_begin = clock_ns(CLOCK_MONOTONIC);
    w->cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    w->match = pcre2_match_data_create(1, NULL);
    w->context = pcre2_match_context_create(NULL);
    w->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MAX, NULL);
    if (!w->match || !w->context)
        return agon_fail(err, AGON_ENOMEM, "tokenizer: out of memory");
    (void)pcre2_set_match_limit(w->context, MATCH_LIMIT); /* always 0 */
    if (w->stack)
        pcre2_jit_stack_assign(w->context, NULL, w->stack);
    return 0;
}

void split_work_deinit(struct split_work *w)
{
    pcre2_match_data_free(w->match);
    pcre2_match_context_free(w->context);
    pcre2_jit_stack_free(w->stack);
}

/* One cut of a piece, on its way through the behaviour to the next stage. */
struct cutting {
    const struct split *splits;
    int n;
    struct split_work *work;
    piece_fn *fn;
    void *user;
    struct agon_str held; /* a part that the next one may join; size 0: none */
    bool held_match;
};

static int cut_emit(struct cutting *c, struct agon_str piece, struct agon_err *err)
{
    if (piece.size == 0)
        return 0;
    return split_all(c->splits + 1, c->n - 1, c->work, piece, c->fn, c->user, err);
}

static bool cut_joins(const struct cutting *c, bool match)
{
    switch (c->splits[0].behaviour) {
    case SPLIT_CONTIGUOUS: return c->held_match == match;
    case SPLIT_MERGED_WITH_PREVIOUS: return match && !c->held_match;
    case SPLIT_MERGED_WITH_NEXT: return !match && c->held_match;
    case SPLIT_ISOLATED:
    case SPLIT_REMOVED: return false;
    }
    return false;
}

/* The next part of the piece, matched or between matches. */
static int cut_part(struct cutting *c, struct agon_str part, bool match, struct agon_err *err)
{
    match ^= c->splits[0].invert;
    if (part.size == 0 || (match && c->splits[0].behaviour == SPLIT_REMOVED))
        return 0;
    if (c->held.size > 0 && cut_joins(c, match)) {
        c->held.size += part.size;
        c->held_match = match;
        return 0;
    }
    struct agon_str before = c->held;
    c->held = part;
    c->held_match = match;
    return cut_emit(c, before, err);
}

static size_t utf8_width(const char *at)
{
    unsigned char byte = (unsigned char)*at;
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* Has the text taken too long? The cheap clock is asked now and then, the true one when it says so.
 */
static int work_watch(struct split_work *w, bool now, struct agon_err *err)
{
    if (!now && ++w->n_unwatched < SEARCHES_UNWATCHED)
        return 0;
    w->n_unwatched = 0;
    if (clock_ns(CLOCK_MONOTONIC) - w->wall_begin < w->ns_max ||
        clock_ns(CLOCK_THREAD_CPUTIME_ID) - w->cpu_begin < w->ns_max)
        return 0;
    return agon_fail(err, AGON_EINPUT,
                     "tokenizer: a pattern of the pre-tokenizer took over %lld s on a text of %zu "
                     "bytes",
                     (long long)(w->ns_max / 1000000000), w->text_size);
}

enum { FOUND_NONE = 0, FOUND = 1 };
/* The first match from `from` on: FOUND with its place, FOUND_NONE, or <0. */
static int search(struct split_work *w, const struct split *s, struct agon_str text, size_t from,
                  size_t *ret_begin, size_t *ret_end, struct agon_err *err)
{
    while (from <= text.size) {
        size_t limit = from + WINDOW_WORK / (text.size - from + 1);
        int r = work_watch(w, false, err);
        if (r)
            return r;
        (void)pcre2_set_offset_limit(w->context, limit < text.size ? limit : text.size); /* 0 */
        int found = pcre2_match(s->code, (PCRE2_SPTR)text.data, text.size, from, PCRE2_NO_UTF_CHECK,
                                w->match, w->context);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            return agon_fail(err, AGON_EINPUT,
                             "tokenizer: a pattern gave up on a text of %zu bytes (PCRE2 %d)",
                             text.size, found);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(w->match);
        if (found >= 0 && (at[1] < at[0] || at[0] < from)) /* \K in a lookaround */
            return agon_fail(err, AGON_EINPUT, "tokenizer: a pattern ends before it begins");
        if (found >= 0) {
            *ret_begin = at[0];
            *ret_end = at[1];
            return FOUND;
        }
        if (limit >= text.size)
            return FOUND_NONE;
        if ((r = work_watch(w, true, err)))
            return r;
        for (from = limit + 1; from < text.size && ((unsigned char)text.data[from] & 0xC0) == 0x80;)
            from++;
    }
    return FOUND_NONE;
}

static int cut_piece(struct cutting *c, struct agon_str text, struct agon_err *err)
{
    size_t from = 0, done = 0, begin = 0, end = 0; /* search from; parts handed out up to */
    int r = 0;
    while (r == 0 && from <= text.size) {
        int found = search(c->work, &c->splits[0], text, from, &begin, &end, err);
        if (found < 0)
            return found;
        if (found == FOUND_NONE)
            break;
        if ((r = cut_part(c, (struct agon_str){text.data + done, begin - done}, false, err)) == 0)
            r = cut_part(c, (struct agon_str){text.data + begin, end - begin}, true, err);
        done = end;
        from = end > begin ? end : end < text.size ? end + utf8_width(text.data + end) : end + 1;
    }
    if (r == 0)
        r = cut_part(c, (struct agon_str){text.data + done, text.size - done}, false, err);
    return r ? r : cut_emit(c, c->held, err);
}

int split_all(const struct split *splits, int n, struct split_work *w, struct agon_str text,
              piece_fn *fn, void *user, struct agon_err *err)
{
    if (n == 0)
        return fn(user, text, err);
    struct cutting c = {.splits = splits, .n = n, .work = w, .fn = fn, .user = user};
    return cut_piece(&c, text, err);
}
