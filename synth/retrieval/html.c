/* HTML pages: see html.h. */
#include "synth/retrieval/html.h"

#include "base/memory.h"
#include "base/text.h"

#include <ctype.h>
#include <libxml/HTMLparser.h>
#include <libxml/uri.h>
#include <stdint.h>
#include <stdlib.h>
#include <strings.h>

enum { HTML_TEXT_MAX = 1 << 20, HTML_LINKS_MAX = 2000, HTML_TABLES_MAX = 32, HTML_SPAN_MAX = 64 };

struct page {
    struct agon_html *html;
    const char *url;
    struct agon_err *err;
    int r; /* first failure */
};

static bool is_element(const xmlNode *n, const char *name)
{
    return n->type == XML_ELEMENT_NODE && strcasecmp((const char *)n->name, name) == 0;
}

static bool is_one_of(const xmlNode *n, const char *const *names)
{
    for (; *names; names++)
        if (is_element(n, *names))
            return true;
    return false;
}

/* Append text with runs of white space as one space, none at the start of a line, until b holds
 * over size_max bytes: a page can ask for the text of one long paragraph once for each link. */
static void add_collapsed(struct agon_buf *b, const char *text, size_t size_max)
{
    for (; *text && b->size <= size_max; text++) {
        unsigned char c = (unsigned char)*text;
        bool space = isspace(c) || c < 0x20 || c == 0x7F;
        char last = b->size ? b->data[b->size - 1] : '\n';
        if (!space)
            agon_buf_addc(b, (char)c);
        else if (last != ' ' && last != '\n')
            agon_buf_addc(b, ' ');
    }
}

static void end_line(struct agon_buf *b)
{
    while (b->size && b->data[b->size - 1] == ' ')
        b->data[--b->size] = '\0';
    if (b->size && b->data[b->size - 1] != '\n')
        agon_buf_addc(b, '\n');
}

static void node_text(struct agon_buf *b, const xmlNode *n, size_t size_max)
{
    if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE)
        add_collapsed(b, (const char *)n->content, size_max);
    /* The parser's depth limit bounds this. */
    for (const xmlNode *c = n->children; c && b->size <= size_max; c = c->next)
        node_text(b, c, size_max);
    if (is_element(n, "td") || is_element(n, "th") || is_element(n, "br"))
        add_collapsed(b, " ", size_max);
}

/* libxml2 guesses at bytes that are no UTF-8, and some come through. */
static void clean(char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t from = at;
        if (agon_utf8_next((struct agon_str){data, size}, &at) < 0)
            memset(data + from, '?', at - from);
    }
}

static char *text_of(const xmlNode *n, size_t size_max)
{
    struct agon_buf b = AGON_BUF(HTML_TEXT_MAX);
    node_text(&b, n, size_max);
    while (b.size && b.data[b.size - 1] == ' ')
        b.data[--b.size] = '\0';
    if (b.size > size_max) {
        b.size = size_max;
        while (b.size && ((unsigned char)b.data[b.size] & 0xC0) == 0x80)
            b.size--;
        b.data[b.size] = '\0';
    }
    char *text = agon_buf_steal(&b);
    if (text)
        clean(text, strlen(text));
    agon_buf_deinit(&b);
    return text;
}

static int out_of_memory(struct page *p)
{
    return p->r = agon_fail(p->err, AGON_ENOMEM, "html: out of memory");
}

/* ---- links */

static char *absolute_url(const char *href, const char *base)
{
    xmlChar *url = xmlBuildURI((const xmlChar *)href, (const xmlChar *)base);
    if (!url)
        return NULL;
    char *copy = NULL;
    bool known = strncmp((char *)url, "http://", 7) == 0 ||
                 strncmp((char *)url, "https://", 8) == 0 || strncmp((char *)url, "doc:", 4) == 0;
    if (known && agon_utf8_valid(agon_str((char *)url)))
        copy = strndup((char *)url, strcspn((char *)url, "#"));
    xmlFree(url);
    return copy;
}

/* The row, item or paragraph that a link stands in: on lists of files it says what the label
 * ("CSV") does not. */
static const xmlNode *link_block(const xmlNode *n)
{
    static const char *const blocks[] = {"tr", "li", "p", "dd", "dt", NULL};
    for (const xmlNode *up = n->parent; up && up->type == XML_ELEMENT_NODE; up = up->parent)
        if (is_one_of(up, blocks))
            return up;
    return n;
}

static void add_link(struct page *p, const xmlNode *n)
{
    struct agon_html *h = p->html;
    xmlChar *href = xmlGetProp(n, (const xmlChar *)"href");
    char *url = href ? absolute_url((const char *)href, p->url) : NULL;
    xmlFree(href);
    bool known = !url || h->n_links == HTML_LINKS_MAX || strcmp(url, p->url) == 0;
    for (int i = 0; !known && i < h->n_links; i++)
        known = strcmp(h->links[i].url, url) == 0;
    if (known) {
        free(url);
        return;
    }
    if (!(h->n_links & (h->n_links - 1))) {
        size_t n_next = h->n_links ? (size_t)h->n_links * 2 : 1;
        struct agon_link *links = realloc(h->links, n_next * sizeof(*links));
        if (!links) {
            free(url);
            (void)out_of_memory(p);
            return;
        }
        h->links = links;
    }
    h->links[h->n_links++] = (struct agon_link){url, text_of(n, 80), text_of(link_block(n), 160)};
}

/* ---- tables */

static int span_of(const xmlNode *cell)
{
    xmlChar *text = xmlGetProp(cell, (const xmlChar *)"colspan");
    int span = text ? atoi((const char *)text) : 1;
    xmlFree(text);
    return span < 1 ? 1 : span > HTML_SPAN_MAX ? HTML_SPAN_MAX : span;
}

/* The cells of one row as texts in t's arena; a spanned cell counts once and leaves gaps. */
static int row_cells(struct page *p, struct agon_table *t, const xmlNode *tr,
                     struct agon_str cells[AGON_TABLE_COLUMNS_MAX])
{
    int n = 0;
    for (const xmlNode *c = tr->children; c && n < AGON_TABLE_COLUMNS_MAX; c = c->next) {
        if (!is_element(c, "td") && !is_element(c, "th"))
            continue;
        char *text = text_of(c, 4000);
        cells[n].data = text ? agon_arena_strdup(t->arena, agon_str(text)) : NULL;
        free(text);
        if (!cells[n].data) {
            (void)out_of_memory(p);
            return 0;
        }
        cells[n].size = strlen(cells[n].data);
        n++;
        for (int gap = span_of(c); gap > 1 && n < AGON_TABLE_COLUMNS_MAX; gap--)
            cells[n++] = agon_str("");
    }
    return n;
}

static bool cell_is_missing(struct agon_str s)
{
    return s.size == 0 || agon_str_is(s, "NA") || agon_str_is(s, "-") ||
           agon_str_is(s, "\xE2\x80\x93") || agon_str_is(s, "\xE2\x80\x94");
}

static void table_row(struct page *p, struct agon_table *t, const xmlNode *tr)
{
    struct agon_str cells[AGON_TABLE_COLUMNS_MAX];
    int n = row_cells(p, t, tr, cells);
    if (p->r || n == 0)
        return;
    if (t->n_columns == 0) { /* the first row names the columns */
        t->headers = agon_arena_alloc(t->arena, (size_t)n * sizeof(*t->headers));
        if (!t->headers) {
            (void)out_of_memory(p);
            return;
        }
        memcpy(t->headers, cells, (size_t)n * sizeof(*cells));
        t->n_columns = n;
        return;
    }
    struct agon_cell_value *row;
    int r = agon_table_add_row(&row, t, p->err);
    if (r) {
        p->r = r < 0 ? r : 0;
        return;
    }
    for (int i = 0; i < n && i < t->n_columns; i++)
        if (!cell_is_missing(cells[i]))
            row[i] = (struct agon_cell_value){AGON_CELL_TEXT, cells[i]};
}

static void table_rows(struct page *p, struct agon_table *t, const xmlNode *n)
{
    for (const xmlNode *c = n->children; c && !p->r; c = c->next) {
        if (is_element(c, "tr"))
            table_row(p, t, c);
        else if (is_element(c, "thead") || is_element(c, "tbody") || is_element(c, "tfoot"))
            table_rows(p, t, c);
    }
}

static void add_table(struct page *p, const xmlNode *n)
{
    struct agon_html *h = p->html;
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    if (h->n_tables == HTML_TABLES_MAX || (p->r = agon_table_new(&t, p->err)))
        return;
    table_rows(p, t, n);
    if (p->r || t->n_columns < 2 || t->n_rows < 1)
        return;
    struct agon_table **tables =
        realloc(h->tables, (size_t)(h->n_tables + 1) * sizeof(struct agon_table *));
    if (!tables) {
        (void)out_of_memory(p);
        return;
    }
    h->tables = tables;
    h->tables[h->n_tables++] = AGON_STEAL(t);
}

/* ---- the walk */

static void walk_links(struct page *p, const xmlNode *n)
{
    for (const xmlNode *c = n->children; c && !p->r; c = c->next) {
        if (is_element(c, "a"))
            add_link(p, c);
        walk_links(p, c);
    }
}

static void walk(struct page *p, const xmlNode *n)
{
    static const char *const hidden[] = {"script", "style", "noscript", "template",
                                         "head",   "svg",   NULL};
    static const char *const blocks[] = {"p",  "div", "li",      "tr",      "h1", "h2", "h3",
                                         "h4", "h5",  "h6",      "br",      "dt", "dd", "ul",
                                         "ol", "pre", "section", "article", NULL};
    struct agon_buf *text = &p->html->text;
    for (const xmlNode *c = n->children; c && !p->r; c = c->next) {
        if (c->type == XML_TEXT_NODE)
            add_collapsed(text, (const char *)c->content, HTML_TEXT_MAX);
        if (c->type != XML_ELEMENT_NODE || is_one_of(c, hidden))
            continue;
        if (is_element(c, "a"))
            add_link(p, c);
        int n_tables = p->html->n_tables;
        if (is_element(c, "table"))
            add_table(p, c);
        if (p->html->n_tables > n_tables && p->html->tables[n_tables]->n_rows > 3) {
            walk_links(p, c); /* a data table is offered by number, not as text */
            continue;
        }
        bool block = is_one_of(c, blocks);
        if (block)
            end_line(text);
        walk(p, c);
        if (block)
            end_line(text);
        else if (is_element(c, "td") || is_element(c, "th"))
            add_collapsed(text, " ", HTML_TEXT_MAX);
    }
}

static const xmlNode *find_element(const xmlNode *n, const char *name)
{
    for (const xmlNode *c = n ? n->children : NULL; c; c = c->next) {
        if (is_element(c, name))
            return c;
        const xmlNode *found = find_element(c, name);
        if (found)
            return found;
    }
    return NULL;
}

int agon_html_parse(struct agon_html *ret, struct agon_str body, const char *url,
                    struct agon_err *err)
{
    *ret = (struct agon_html){.text = AGON_BUF(HTML_TEXT_MAX)};
    if (body.size > INT32_MAX)
        return agon_fail(err, AGON_EINPUT, "html: page of %zu bytes", body.size);
    /* what it has no memory for it leaves out of its tree */
    xmlMemSetup(free, agon_memory_alloc, agon_memory_realloc, agon_memory_strdup);
    htmlDocPtr doc = htmlReadMemory(body.data, (int)body.size, url, NULL,
                                    HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                        HTML_PARSE_NONET | HTML_PARSE_COMPACT);
    struct page p = {.html = ret, .url = url, .err = err};
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    const xmlNode *title = find_element(root, "title");
    ret->title = title ? text_of(title, 200) : strdup("");
    if (!ret->title)
        (void)out_of_memory(&p);
    if (root && !p.r)
        walk(&p, root);
    end_line(&ret->text);
    if (ret->text.size)
        clean(ret->text.data, ret->text.size);
    xmlFreeDoc(doc);
    if (!p.r && agon_memory_ran_out())
        (void)out_of_memory(&p);
    if (p.r)
        agon_html_deinit(ret);
    return p.r;
}

void agon_html_deinit(struct agon_html *h)
{
    free(h->title);
    agon_buf_deinit(&h->text);
    for (int i = 0; i < h->n_links; i++) {
        free(h->links[i].url);
        free(h->links[i].label);
        free(h->links[i].context);
    }
    free(h->links);
    for (int i = 0; i < h->n_tables; i++)
        agon_table_free(h->tables[i]);
    free(h->tables);
    *h = (struct agon_html){.text = AGON_BUF(HTML_TEXT_MAX)};
}
