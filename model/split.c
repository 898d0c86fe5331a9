/*
 * Cutting text with the pre-tokenizer's patterns (PCRE2 with Unicode properties). Each pattern
 * sees the piece alone, so a piece's end is the end of text to it: that is how the tokenizers
 * library works, and ids depend on it.
 *
 * NEEDSWORK: PCRE2's \s holds U+180E, which lost White_Space in Unicode 6.3.
 */
#include "model/tokenizer_internal.h"

#include <string.h>

enum {
    /* A megabyte of blanks before a letter backtracks once a byte; this is far above. */
    MATCH_LIMIT = 100 * 1000 * 1000,
    JIT_STACK_FIRST = 32 << 10,
    JIT_STACK_MAX = 8 << 20,
};

int split_init(struct split *s, const char *pattern, bool literal, enum split_behaviour behaviour,
               bool invert, struct agon_err *err)
{
    if (strlen(pattern) > PATTERN_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "pattern over %d bytes", PATTERN_BYTES_MAX);
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
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

int split_work_init(struct split_work *w, struct agon_err *err)
{
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

static int cut_piece(struct cutting *c, struct agon_str text, struct agon_err *err)
{
    size_t from = 0, done = 0; /* search from; parts handed out up to */
    int r = 0;
    while (r == 0 && from <= text.size) {
        int found = pcre2_match(c->splits[0].code, (PCRE2_SPTR)text.data, text.size, from,
                                PCRE2_NO_UTF_CHECK, c->work->match, c->work->context);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return agon_fail(err, AGON_EINPUT,
                             "tokenizer: a pattern gave up on a text of %zu bytes (PCRE2 %d)",
                             text.size, found);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(c->work->match);
        size_t begin = at[0], end = at[1];
        if (end < begin) /* \K in a lookahead */
            return agon_fail(err, AGON_EINPUT, "tokenizer: a pattern ends before it begins");
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
