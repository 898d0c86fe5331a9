/*
 * Identifiers (schema.h): one rule for tools, arguments, tables and columns, so
 * that a name never needs quoting in any language that it appears in.
 */
#include "envs/schema.h"

#include <sqlite3.h>
#include <stdlib.h>

enum { NAME_BYTES_MAX = 63, NAME_REFUSED = 1 };

/* Sorted, lower case only (others can't be names). SQL's words are asked of SQLite itself. */
static const char *const c_words[] = {
    "auto",    "break",  "case",     "char",   "const",    "continue", "default",
    "do",      "double", "else",     "enum",   "extern",   "float",    "for",
    "goto",    "if",     "inline",   "int",    "long",     "register", "restrict",
    "return",  "short",  "signed",   "sizeof", "static",   "struct",   "switch",
    "typedef", "union",  "unsigned", "void",   "volatile", "while",
};
static const char *const python_words[] = {
    "and",    "as",   "assert", "async",  "await",  "break",   "class",    "continue",
    "def",    "del",  "elif",   "else",   "except", "finally", "for",      "from",
    "global", "if",   "import", "in",     "is",     "lambda",  "nonlocal", "not",
    "or",     "pass", "raise",  "return", "try",    "while",   "with",     "yield",
};
static const char *const lua_words[] = {
    "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while",
};
/* What protocols of other systems call on an environment (DESIGN.md). */
static const char *const reserved[] = {
    "aggregate_metrics", "close", "get_reward", "mcp",           "reset",
    "seed_session",      "state", "step",       "submit_result", "verify",
};

#define IN(name, words) in_words(name, words, sizeof(words) / sizeof(*(words)))

static bool in_words(const char *name, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, words[i]))
            return true;
    return false;
}

int agon_name_check(const char *name, struct agon_err *err)
{
    size_t size = strlen(name);
    bool fine = size > 0 && name[0] >= 'a' && name[0] <= 'z';
    for (size_t i = 0; i < size; i++)
        fine &= (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
                name[i] == '_';
    const char *language = NULL;
    if (size > NAME_BYTES_MAX)
        agon_fail(err, NAME_REFUSED, "'%.40s...' is over %d bytes", name, NAME_BYTES_MAX);
    else if (!fine)
        agon_fail(err, NAME_REFUSED,
                  "'%.63s' is no name: use a lower-case letter, then letters, digits and _", name);
    else if (sqlite3_keyword_check(name, (int)size))
        language = "SQL";
    else if (IN(name, python_words))
        language = "Python";
    else if (IN(name, c_words))
        language = "C";
    else if (IN(name, lua_words))
        language = "Lua";
    else
        return 0;
    if (language)
        agon_fail(err, NAME_REFUSED, "'%s' is a keyword of %s", name, language);
    return NAME_REFUSED;
}

int agon_tool_name_check(const char *name, struct agon_err *err)
{
    int r = agon_name_check(name, err);
    if (r || !IN(name, reserved))
        return r;
    agon_fail(err, NAME_REFUSED, "'%s' is a reserved name", name);
    return NAME_REFUSED;
}
