/* What it costs to take a document apart in a box instead of in the driver. */
#include "sandbox/cell.h"
#include "synth/retrieval/parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 15 };

static struct agon_err err;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "%s\n", err.text);
    exit(1);
}

static double median_us(struct agon_parser *p, const struct agon_document *d, bool boxed)
{
    double us[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 << 20);
        double start = now_us();
        check(boxed ? agon_parser_render(p, d, &text, &err) : agon_document_render(d, &text, &err));
        us[i] = now_us() - start;
    }
    qsort(us, ROUNDS, sizeof(*us), compare);
    return us[ROUNDS / 2];
}

static void measure(struct agon_parser *p, const char *name, enum agon_document_kind kind,
                    const char *head, const char *row, int n)
{
    struct agon_buf body AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    agon_buf_adds(&body, head);
    for (int i = 0; i < n; i++)
        agon_buf_adds(&body, row);
    struct agon_document d = {"http://h/page", kind, agon_buf_str(&body)};
    double here = median_us(p, &d, false), boxed = median_us(p, &d, true);
    printf("%-28s %8zu bytes  here %9.1f us  boxed %9.1f us  %.2fx\n", name, body.size, here, boxed,
           boxed / here);
}

int main(void)
{
    static const char row[] =
        "<tr><td>Upper mill</td><td>1780</td><td><a href='/m'>page</a></td></tr>\n";
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_parser *p AGON_AUTO(agon_parser_freep) = NULL;
    check(agon_sandbox_open(&sb, NULL, &err));
    check(agon_parser_new(&p, sb, &err));
    double start = now_us();
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    check(agon_parser_render(p, &(struct agon_document){"doc:x", AGON_DOC_TEXT, agon_str("x")},
                             &text, &err));
    printf("a parser's start %.1f ms\n", (now_us() - start) / 1e3);
    measure(p, "a short page", AGON_DOC_HTML, "<title>t</title><table>", row, 20);
    measure(p, "a page", AGON_DOC_HTML, "<title>t</title><table>", row, 600);
    measure(p, "a long page", AGON_DOC_HTML, "<title>t</title><table>", row, 12000);
    measure(p, "a CSV file", AGON_DOC_CSV, "name,built,class\n", "Upper mill,1780,A\n", 5000);
    return 0;
}
