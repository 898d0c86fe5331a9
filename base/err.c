/* Errors: see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int agon_err_set(struct agon_err *err, int code, const char *file, int line, const char *fmt, ...)
{
    if (err) {
        err->code = code;
        err->file = file;
        err->line = line;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return code;
}

int agon_err_in(struct agon_err *err, int code, const char *fmt, ...)
{
    if (err) {
        char in[256];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(in, sizeof(in) - 2, fmt, ap);
        va_end(ap);
        size_t n = strlen(in);
        in[n++] = ':';
        in[n++] = ' ';
        size_t kept = strnlen(err->text, sizeof(err->text) - 1 - n);
        memmove(err->text + n, err->text, kept);
        memcpy(err->text, in, n);
        err->text[n + kept] = '\0';
    }
    return code;
}
