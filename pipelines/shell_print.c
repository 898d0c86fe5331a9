/* What the shell prints: see shell.h. */
#include "base/json.h"
#include "pipelines/pretty.h"
#include "pipelines/shell.h"

const char *shell_on(const struct shell *sh, enum shell_style style)
{
    static const char *const codes[] = {"", "\033[32m", "\033[31m", "\033[1m", "\033[2m"};
    return sh->colour ? codes[style] : "";
}

const char *shell_off(const struct shell *sh)
{
    return sh->colour ? "\033[0m" : "";
}

static void print_buf(const struct agon_buf *b)
{
    if (b->failed)
        puts("(too long to show)");
    else
        fwrite(agon_buf_text(b), 1, b->size, stdout);
}

int shell_error(struct shell *sh, const char *fmt, ...)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(&text, fmt, ap);
    va_end(ap);
    sh->n_errors++;
    agon_pretty_wrap(&lines, agon_buf_str(&text), sh->width, 7, 7);
    printf("%serror: ", shell_on(sh, SHELL_BAD));
    print_buf(&lines);
    fputs(shell_off(sh), stdout);
    return 0;
}

void shell_heading(const struct shell *sh, const char *text)
{
    printf("%s%s%s\n", shell_on(sh, SHELL_HEAD), text, shell_off(sh));
}

void shell_json(const struct shell *sh, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    agon_pretty_json(&text, value, sh->raw ? 1 << 30 : sh->width, 0);
    agon_buf_addc(&text, '\n');
    print_buf(&text);
}

void shell_value(const struct shell *sh, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    size_t n = json_array_size(value);
    if (sh->raw || !agon_pretty_is_rows(value)) {
        shell_json(sh, value);
        return;
    }
    agon_pretty_rows(&text, value, sh->width);
    agon_buf_addf(&text, "(%zu row%s)\n", n, n == 1 ? "" : "s");
    print_buf(&text);
}

void shell_value_text(const struct shell *sh, const char *text)
{
    json_auto_t *value = NULL;
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    if (!sh->raw && !agon_json_parse(&value, agon_str(text), NULL)) {
        shell_value(sh, value);
        return;
    }
    agon_text_add_plain(&plain, agon_str(text), true);
    if (plain.size == 0 || plain.data[plain.size - 1] != '\n')
        agon_buf_addc(&plain, '\n');
    print_buf(&plain);
}

void shell_text(const struct shell *sh, const char *text, int indent)
{
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    agon_pretty_wrap(&lines, agon_str(text), sh->width, 0, indent);
    print_buf(&lines);
}

void shell_text_after(const struct shell *sh, const char *text, int indent)
{
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    agon_pretty_wrap(&lines, agon_str(text), sh->width, indent, indent);
    print_buf(&lines);
}

void shell_line_value(const struct shell *sh, const char *before, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    int room = sh->width - agon_pretty_width(agon_str(before));
    agon_json_dump(&text, value);
    agon_text_add_plain(&plain, agon_buf_str(&text), false);
    struct agon_str s = agon_buf_str(&plain);
    size_t end = s.size;
    while (end > 0 && agon_pretty_width((struct agon_str){s.data, end}) > room - 1 &&
           agon_pretty_width(s) > room)
        end = agon_utf8_cut(s, end - 1).size;
    printf("%s%.*s%s\n", before, (int)end, end ? s.data : "", end < s.size ? "…" : "");
}
