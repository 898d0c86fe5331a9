/* Pages: see page.h. Text is valid UTF-8; sizes are counted in code points. */
#include "synth/page.h"

enum { CAP_MIN = 256 };

size_t agon_page_cap(int window_tokens)
{
    return window_tokens / 4 > CAP_MIN ? (size_t)window_tokens / 4 : CAP_MIN;
}

/* The offset n characters after `at`, or text.size. */
static size_t skip_characters(struct agon_str text, size_t at, size_t n)
{
    while (n > 0 && at < text.size) {
        at++;
        while (at < text.size && ((unsigned char)text.data[at] & 0xC0) == 0x80)
            at++;
        n--;
    }
    return at;
}

/* Where the last `mark` that ends in (from, to] ends; 0: none. */
static size_t last_mark(struct agon_str text, size_t from, size_t to, const char *mark)
{
    size_t n = strlen(mark);
    for (size_t end = to; end > from && end >= n; end--)
        if (memcmp(text.data + end - n, mark, n) == 0)
            return end;
    return 0;
}

/* The end of the page that begins at `at`. A line or a value is kept whole where one
 * ends in the second half of the page. */
static size_t page_end(struct agon_str text, size_t at, size_t cap)
{
    size_t end = skip_characters(text, at, cap);
    if (end == text.size)
        return end;
    size_t half = skip_characters(text, at, cap / 2);
    size_t cut = last_mark(text, half, end, "\n");
    if (!cut)
        cut = last_mark(text, half, end, ", ");
    return cut ? cut : end;
}

int agon_page_cut(struct agon_buf *b, struct agon_str text, size_t cap, int page)
{
    size_t from = 0, to = 0;
    int n_pages = 0;
    for (size_t at = 0; n_pages == 0 || at < text.size;) {
        size_t end = page_end(text, at, cap);
        if (++n_pages == page) {
            from = at;
            to = end;
        }
        at = end;
    }
    if (page < 1 || page > n_pages)
        return n_pages;
    agon_buf_add(b, text.data + from, to - from);
    if (n_pages == 1)
        return 1;
    if (to > from && text.data[to - 1] != '\n')
        agon_buf_addc(b, '\n');
    agon_buf_addf(b, "... page %d of %d", page, n_pages);
    if (page < n_pages)
        agon_buf_addf(b, "; the next: \"more\": %d", page + 1);
    return n_pages;
}
