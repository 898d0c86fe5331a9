/*
 * The code's side of lexicon.h: a tokenizer for Lua, a pass over its tokens that says
 * of each literal what it is for, and a scanner for the SQL inside Lua strings.
 */
#include "verifiers/lexicon.h"

#include "base/buf.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

enum {
    DEPTH_MAX = 200, /* brackets within brackets; deeper ones share the last place */
    STRING_BYTES_MAX = 1 << 20,
};

enum token_kind { TOKEN_NAME, TOKEN_NUMBER, TOKEN_STRING, TOKEN_SYMBOL };
struct token {
    enum token_kind kind;
    struct agon_str source; /* as written, borrowed */
    char *value;            /* of a string: its bytes, owned */
};
struct tokens {
    struct token *items;
    size_t n, capacity;
};

void agon_literals_deinit(struct agon_literals *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].text);
    free(l->items);
    *l = (struct agon_literals){0};
}

static int literals_add(struct agon_literals *l, struct agon_literal literal, struct agon_str text)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 32;
        struct agon_literal *items = realloc(l->items, capacity * sizeof(*items));
        if (!items)
            return AGON_ENOMEM;
        l->items = items;
        l->capacity = capacity;
    }
    literal.text = strndup(text.data, text.size);
    if (!literal.text)
        return AGON_ENOMEM;
    l->items[l->n++] = literal;
    return 0;
}

/* ---- tokens ---- */

static void tokens_deinit(struct tokens *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->items[i].value);
    free(t->items);
}

static int tokens_add(struct tokens *t, enum token_kind kind, struct agon_str source,
                      char *value_taken)
{
    if (t->n == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 256;
        struct token *items = realloc(t->items, capacity * sizeof(*items));
        if (!items) {
            free(value_taken);
            return AGON_ENOMEM;
        }
        t->items = items;
        t->capacity = capacity;
    }
    t->items[t->n++] = (struct token){kind, source, value_taken};
    return 0;
}

/* [[ or [==[ at p: the number of = plus 2, or 0. */
static size_t long_bracket_at(const char *p, const char *end)
{
    if (p == end || *p != '[')
        return 0;
    const char *q = p + 1;
    while (q < end && *q == '=')
        q++;
    return q < end && *q == '[' ? (size_t)(q - p) + 1 : 0;
}

/* The end of the long bracket's text whose opening was `level` bytes; end where it never closes. */
static const char *long_bracket_end(const char *p, const char *end, size_t level)
{
    for (; p < end; p++) {
        if (*p != ']' || (size_t)(end - p) < level || p[level - 1] != ']')
            continue;
        size_t i = 1;
        while (i < level - 1 && p[i] == '=')
            i++;
        if (i == level - 1)
            return p;
    }
    return end;
}

/* One escape after the backslash; returns the place after it. */
static const char *unescape(struct agon_buf *b, const char *p, const char *end)
{
    static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
    const char *known = strchr(from, *p);
    if (*p && known) {
        agon_buf_addc(b, to[known - from]);
        return p + 1;
    }
    if (*p == 'z') {
        for (p++; p < end && isspace((unsigned char)*p); p++)
            ;
        return p;
    }
    if (*p == 'x' && end - p > 2 && isxdigit((unsigned char)p[1]) &&
        isxdigit((unsigned char)p[2])) {
        char hex[3] = {p[1], p[2], 0};
        agon_buf_addc(b, (char)strtol(hex, NULL, 16));
        return p + 3;
    }
    if (isdigit((unsigned char)*p)) {
        int code = 0, n = 0;
        while (n < 3 && p < end && isdigit((unsigned char)*p)) {
            code = 10 * code + (*p++ - '0');
            n++;
        }
        agon_buf_addc(b, (char)code);
        return p;
    }
    agon_buf_addc(b, *p); /* quotes, backslash, newline */
    return p + 1;
}

/* A quoted string at p; returns the place after it. */
static const char *quoted_string(struct agon_buf *b, const char *p, const char *end)
{
    char quote = *p++;
    while (p < end && *p != quote && *p != '\n') {
        if (*p == '\\' && p + 1 < end)
            p = unescape(b, p + 1, end);
        else
            agon_buf_addc(b, *p++);
    }
    return p < end ? p + 1 : end;
}

static const char *number_end(const char *p, const char *end)
{
    bool hex = end - p > 1 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
    const char *q = p;
    while (q < end) {
        bool exponent = q > p && strchr(hex ? "pP" : "eE", q[-1]) && (*q == '+' || *q == '-');
        bool range = *q == '.' && q + 1 < end && q[1] == '.'; /* 1..x is a concatenation */
        if (range || !(isalnum((unsigned char)*q) || *q == '.' || exponent))
            break;
        q++;
    }
    return q;
}

/* The token at p, which is no space; returns the place after it, NULL when out of memory. */
static const char *token_at(struct tokens *t, const char *p, const char *end)
{
    const char *q = p;
    size_t level = long_bracket_at(p, end);
    if (*p == '"' || *p == '\'' || level) {
        struct agon_buf value = AGON_BUF(STRING_BYTES_MAX);
        if (level) {
            q = long_bracket_end(p + level, end, level);
            agon_buf_add(&value, p + level, (size_t)(q - p) - level);
            q = (size_t)(end - q) < level ? end : q + level;
        } else {
            q = quoted_string(&value, p, end);
        }
        struct agon_str source = {p, (size_t)(q - p)};
        char *bytes = agon_buf_steal(&value);
        agon_buf_deinit(&value);
        return bytes && !tokens_add(t, TOKEN_STRING, source, bytes) ? q : NULL;
    }
    enum token_kind kind = TOKEN_SYMBOL;
    if (isdigit((unsigned char)*p) || (*p == '.' && end - p > 1 && isdigit((unsigned char)p[1]))) {
        kind = TOKEN_NUMBER;
        q = number_end(p, end);
    } else if (isalpha((unsigned char)*p) || *p == '_') {
        kind = TOKEN_NAME;
        while (q < end && (isalnum((unsigned char)*q) || *q == '_'))
            q++;
    } else {
        static const char *const wide[] = {
            "...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>"};
        q = p + 1;
        for (size_t i = 0; i < sizeof(wide) / sizeof(*wide); i++) {
            size_t n = strlen(wide[i]);
            if ((size_t)(end - p) >= n && !memcmp(p, wide[i], n)) {
                q = p + n;
                break;
            }
        }
    }
    return tokens_add(t, kind, (struct agon_str){p, (size_t)(q - p)}, NULL) ? NULL : q;
}

static const char *skip_comment(const char *p, const char *end)
{
    size_t level = long_bracket_at(p + 2, end);
    if (level) {
        p = long_bracket_end(p + 2 + level, end, level);
        return (size_t)(end - p) < level ? end : p + level;
    }
    while (p < end && *p != '\n')
        p++;
    return p;
}

static int tokens_of(struct tokens *t, struct agon_str source)
{
    const char *p = source.data, *end = source.data + source.size;
    while (p && p < end) {
        if (isspace((unsigned char)*p))
            p++;
        else if (end - p > 1 && p[0] == '-' && p[1] == '-')
            p = skip_comment(p, end);
        else
            p = token_at(t, p, end);
    }
    return p || !source.size ? 0 : AGON_ENOMEM;
}

/* ---- SQL inside strings ---- */

static bool has_word_byte(struct agon_str s)
{
    for (size_t i = 0; i < s.size; i++)
        if (isalnum((unsigned char)s.data[i]) || (unsigned char)s.data[i] >= 0x80)
            return true;
    return false;
}

static bool is_one_of(struct agon_str name, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == name.size && !strncasecmp(*list, name.data, name.size))
            return true;
    return false;
}

/* Functions of SQL and Lua whose number arguments count characters, digits or places. */
static const char *const place_functions[] = {"sub",   "substr", "substring", "byte",   "char",
                                              "rep",   "select", "unpack",    "format", "printf",
                                              "round", "instr",  NULL};
static const char *const date_functions[] = {"date",      "time",     "datetime", "julianday",
                                             "unixepoch", "strftime", NULL};

/* A text between quotes in SQL: the pieces of a LIKE pattern are what is compared. */
static int sql_text(struct agon_literals *l, struct agon_str text, bool in_date_function)
{
    size_t start = 0;
    for (size_t i = 0; i <= text.size; i++) {
        if (i < text.size && text.data[i] != '%')
            continue;
        struct agon_str piece = {text.data + start, i - start};
        start = i + 1;
        bool date_format = in_date_function && !(piece.size >= 7 && piece.data[4] == '-');
        if (!has_word_byte(piece))
            continue;
        int r = literals_add(l, (struct agon_literal){.compared = !date_format}, piece);
        if (r)
            return r;
    }
    return 0;
}

static int sql_number(struct agon_literals *l, struct agon_str text, bool is_place)
{
    char digits[64];
    snprintf(digits, sizeof(digits), "%.*s", AGON_STR_ARG(text));
    double number = fabs(strtod(digits, NULL));
    bool compared = !is_place && number != 0 && number != 1;
    return literals_add(
        l, (struct agon_literal){.is_number = true, .compared = compared, .number = number}, text);
}

static int sql_literals(struct agon_literals *l, const char *sql)
{
    struct agon_str word = {"", 0}, call[DEPTH_MAX + 1] = {{"", 0}};
    int depth = 0, r = 0;
    const char *p = sql, *end = sql + strlen(sql);
    while (p < end && !r) {
        const char *q = p + 1;
        struct agon_str function = call[depth < DEPTH_MAX ? depth : DEPTH_MAX];
        if (*p == '\'') {
            while (q < end && (*q != '\'' || q[1] == '\''))
                q += *q == '\'' ? 2 : 1;
            if (q > end)
                q = end;
            r = sql_text(l, (struct agon_str){p + 1, (size_t)(q - p) - 1},
                         is_one_of(function, date_functions));
            q = q < end ? q + 1 : end;
        } else if (isdigit((unsigned char)*p)) {
            q = number_end(p, end);
            bool is_place = is_one_of(function, place_functions) || agon_str_is(word, "OFFSET") ||
                            agon_str_is(word, "offset") ||
                            p[-1 + (p == sql)] == '?'; /* ?2 names a parameter */
            r = sql_number(l, (struct agon_str){p, (size_t)(q - p)}, is_place);
        } else if (isalpha((unsigned char)*p) || *p == '_') {
            while (q < end && (isalnum((unsigned char)*q) || *q == '_'))
                q++;
            word = (struct agon_str){p, (size_t)(q - p)};
            p = q;
            continue;
        } else if (*p == '"') { /* an identifier */
            while (q < end && *q != '"')
                q++;
            q = q < end ? q + 1 : end;
        } else if (*p == '(') {
            depth++;
            call[depth < DEPTH_MAX ? depth : DEPTH_MAX] = word;
        } else if (*p == ')' && depth) {
            depth--;
        }
        if (!isspace((unsigned char)*p))
            word = (struct agon_str){"", 0};
        p = q;
    }
    return r;
}

/* ---- what each literal of Lua is for ---- */

/* An open bracket. */
struct place {
    struct agon_str function; /* called with these arguments, or empty */
    int argument;             /* commas so far */
    bool is_check;            /* the table of check{...} */
    bool is_index;            /* a[...] or the key of a table */
};

struct pass {
    const struct tokens *tokens;
    struct agon_literals *out;
    const json_t *identifiers;
    struct place places[DEPTH_MAX + 1];
    int depth;
    bool in_for;    /* between for and do: a loop's bounds */
    bool after_sql; /* the last string was SQL: what .. joins to it is too */
    bool after_label;
};

static const struct token *pass_token(const struct pass *p, size_t i)
{
    return i < p->tokens->n ? &p->tokens->items[i] : NULL;
}

static bool token_is(const struct token *t, const char *text)
{
    return t && t->kind != TOKEN_STRING && agon_str_is(t->source, text);
}

static struct place *pass_place(struct pass *p)
{
    return &p->places[p->depth < DEPTH_MAX ? p->depth : DEPTH_MAX];
}

static void pass_open(struct pass *p, size_t i)
{
    const struct token *before = i ? pass_token(p, i - 1) : NULL, *at = pass_token(p, i);
    bool after_value =
        before && (before->kind == TOKEN_NAME || token_is(before, ")") || token_is(before, "]"));
    struct place *outer = pass_place(p), place = {0};
    if (token_is(at, "["))
        place.is_index = true;
    else if (before && before->kind == TOKEN_NAME)
        place.function = before->source;
    if (token_is(at, "{"))
        place.is_check = agon_str_is(place.function, "check") ||
                         (token_is(before, "(") && agon_str_is(outer->function, "check"));
    if (token_is(at, "{") && !after_value)
        place.function = (struct agon_str){"", 0};
    p->depth++;
    *pass_place(p) = place;
}

/* Is the string at i the first part of a label: check{ name = "..." }? */
static bool is_label_start(struct pass *p, size_t i)
{
    if (i < 3 || !pass_place(p)->is_check || !token_is(pass_token(p, i - 1), "="))
        return false;
    const struct token *key = pass_token(p, i - 2), *before = pass_token(p, i - 3);
    return (token_is(key, "name") || token_is(key, "text")) &&
           (token_is(before, "{") || token_is(before, ",") || token_is(before, ";"));
}

/* A statement, or a part of one that is kept apart and joined to several: " FROM t WHERE ...". */
static bool starts_sql(const char *text)
{
    static const char *const parts[] = {"FROM ", "WHERE ", "ORDER BY ", "GROUP BY ",
                                        "JOIN ", "AND ",   "LIMIT ",    NULL};
    while (isspace((unsigned char)*text))
        text++;
    for (const char *const *part = parts; *part; part++)
        if (!strncmp(text, *part, strlen(*part)))
            return true;
    return !strncasecmp(text, "SELECT", 6) || !strncasecmp(text, "WITH", 4) ||
           !strncasecmp(text, "VALUES", 6);
}

static bool is_sql_argument(const struct pass *p, const struct place *place)
{
    static const char *const functions[] = {"rows", "row", "value", "exec", NULL};
    (void)p;
    return place->argument == 0 && is_one_of(place->function, functions);
}

static bool is_type_name(const char *text)
{
    static const char *const names[] = {"nil",      "number",  "string", "boolean", "table",
                                        "function", "integer", "float",  NULL};
    return is_one_of(agon_str(text), names);
}

static int pass_string(struct pass *p, size_t i)
{
    const struct token *t = pass_token(p, i);
    struct place *place = pass_place(p);
    bool joined = i && token_is(pass_token(p, i - 1), "..");
    struct agon_literal literal = {0};
    struct agon_str text = agon_str(t->value);
    literal.label = is_label_start(p, i) || (joined && p->after_label);
    bool sql = !literal.label &&
               ((joined && p->after_sql) || starts_sql(t->value) || is_sql_argument(p, place));
    p->after_label = literal.label;
    p->after_sql = sql;
    if (sql)
        return sql_literals(p->out, t->value);

    bool is_table = place->argument == 0 && (agon_str_is(place->function, "inserted") ||
                                             agon_str_is(place->function, "updated") ||
                                             agon_str_is(place->function, "deleted"));
    bool exempt = literal.label || place->is_index || is_table || !has_word_byte(text) ||
                  strchr(t->value, '%') || is_type_name(t->value) ||
                  agon_str_is(place->function, "error") ||
                  (p->identifiers && json_object_get(p->identifiers, t->value));
    literal.compared = !exempt;
    return literals_add(p->out, literal, text);
}

static bool is_power_of_ten(double number)
{
    return number == 10 || number == 100 || number == 1000 || number == 10000 || number == 100000 ||
           number == 1000000;
}

static int pass_number(struct pass *p, size_t i)
{
    const struct token *t = pass_token(p, i), *before = i ? pass_token(p, i - 1) : NULL,
                       *after = pass_token(p, i + 1);
    struct place *place = pass_place(p);
    char digits[64];
    snprintf(digits, sizeof(digits), "%.*s", AGON_STR_ARG(t->source));
    struct agon_literal literal = {.is_number = true, .number = fabs(strtod(digits, NULL))};

    bool scaled = token_is(before, "*") || token_is(before, "/") || token_is(before, "//") ||
                  token_is(after, "*") || token_is(after, "/") || token_is(after, "//");
    bool rounding = (literal.number == 0.5 && token_is(before, "+")) ||
                    (is_power_of_ten(literal.number) && scaled) || token_is(before, "^") ||
                    token_is(after, "^");
    bool tolerance = agon_str_is(place->function, "near") && place->argument == 2;
    bool exempt = literal.number == 0 || literal.number == 1 || place->is_index || p->in_for ||
                  rounding || tolerance || is_one_of(place->function, place_functions);
    literal.compared = !exempt;
    p->after_sql = p->after_label = false;
    return literals_add(p->out, literal, t->source);
}

static void pass_symbol(struct pass *p, size_t i)
{
    const struct token *t = pass_token(p, i);
    if (token_is(t, "(") || token_is(t, "{") || token_is(t, "[")) {
        pass_open(p, i);
    } else if (token_is(t, ")") || token_is(t, "}") || token_is(t, "]")) {
        p->depth -= p->depth > 0;
    } else if (token_is(t, ",")) {
        pass_place(p)->argument++;
        p->after_sql = p->after_label = false;
    } else if (token_is(t, "for")) {
        p->in_for = true;
    } else if (token_is(t, "do") || token_is(t, "in")) { /* a generic for's list is no bound */
        p->in_for = false;
    } else if (token_is(t, ";") || token_is(t, "=")) {
        p->after_sql = p->after_label = false;
    }
}

int agon_lua_literals(struct agon_literals *ret, struct agon_str source, const json_t *identifiers,
                      struct agon_err *err)
{
    *ret = (struct agon_literals){0};
    struct tokens tokens = {0};
    struct pass *p = calloc(1, sizeof(*p));
    int r = p ? tokens_of(&tokens, source) : AGON_ENOMEM;
    if (p) {
        p->tokens = &tokens;
        p->out = ret;
        p->identifiers = identifiers;
    }
    for (size_t i = 0; !r && i < tokens.n; i++) {
        if (tokens.items[i].kind == TOKEN_STRING)
            r = pass_string(p, i);
        else if (tokens.items[i].kind == TOKEN_NUMBER)
            r = pass_number(p, i);
        else
            pass_symbol(p, i);
    }
    free(p);
    tokens_deinit(&tokens);
    if (!r)
        return 0;
    agon_literals_deinit(ret);
    return agon_fail(err, AGON_ENOMEM, "lexicon: out of memory");
}
