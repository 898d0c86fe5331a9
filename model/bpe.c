/*
 * Merging by rank with a heap: n log n for any text. The pair of lowest rank merges first, the
 * leftmost among equals; a candidate that no longer stands in the list is dropped when popped.
 */
#include "model/tokenizer_internal.h"

#include <stdlib.h>

/* ---- table of merges ---------------------------------------------------------------- */

static size_t pair_hash(int left, int right)
{
    uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    x ^= x >> 32;
    return (size_t)(x * UINT64_C(0xD6E8FEB86659FD93) >> 16);
}

int merges_init(struct merges *m, size_t n, struct agon_err *err)
{
    m->n_slots = 16;
    while (m->n_slots < 2 * n)
        m->n_slots *= 2;
    m->slots = malloc(m->n_slots * sizeof(*m->slots));
    if (!m->slots)
        return agon_fail(err, AGON_ENOMEM, "tokenizer: out of memory");
    for (size_t i = 0; i < m->n_slots; i++)
        m->slots[i].left = -1;
    return 0;
}

void merges_deinit(struct merges *m)
{
    free(m->slots);
}

bool merges_add(struct merges *m, struct merge merge)
{
    size_t at = pair_hash(merge.left, merge.right) & (m->n_slots - 1);
    for (; m->slots[at].left >= 0; at = (at + 1) & (m->n_slots - 1))
        if (m->slots[at].left == merge.left && m->slots[at].right == merge.right)
            return false;
    m->slots[at] = merge;
    return true;
}

const struct merge *merges_find(const struct merges *m, int left, int right)
{
    size_t at = pair_hash(left, right) & (m->n_slots - 1);
    for (; m->slots[at].left >= 0; at = (at + 1) & (m->n_slots - 1))
        if (m->slots[at].left == left && m->slots[at].right == right)
            return &m->slots[at];
    return NULL;
}

/* ---- heap --------------------------------------------------------------------------- */

static bool candidate_before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void heap_push(struct bpe_work *w, struct bpe_candidate candidate)
{
    size_t at = w->n_heap++;
    for (size_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (!candidate_before(&candidate, &w->heap[parent]))
            break;
        w->heap[at] = w->heap[parent];
    }
    w->heap[at] = candidate;
}

static struct bpe_candidate heap_pop(struct bpe_work *w)
{
    struct bpe_candidate first = w->heap[0], moving = w->heap[--w->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < w->n_heap; at = child) {
        if (child + 1 < w->n_heap && candidate_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!candidate_before(&w->heap[child], &moving))
            break;
        w->heap[at] = w->heap[child];
    }
    w->heap[at] = moving;
    return first;
}

/* ---- encoding ----------------------------------------------------------------------- */

void bpe_work_deinit(struct bpe_work *w)
{
    free(w->nodes);
    free(w->heap);
}

/* A merge removes a node and adds at most two candidates: 3 n bounds the heap. */
static int work_reserve(struct bpe_work *w, size_t n, struct agon_err *err)
{
    if (n <= w->capacity)
        return 0;
    struct bpe_node *nodes = realloc(w->nodes, n * sizeof(*nodes));
    if (nodes)
        w->nodes = nodes;
    struct bpe_candidate *heap = realloc(w->heap, 3 * n * sizeof(*heap));
    if (heap)
        w->heap = heap;
    if (!nodes || !heap)
        return agon_fail(err, AGON_ENOMEM, "tokenizer: out of memory for %zu bytes of text", n);
    w->capacity = n;
    return 0;
}

/* Queue the pair of nodes at and the one after, if it merges. */
static void work_queue(struct bpe_work *w, const struct merges *m, int at)
{
    if (at < 0 || w->nodes[at].next < 0)
        return;
    int left = w->nodes[at].id, right = w->nodes[w->nodes[at].next].id;
    const struct merge *merge = merges_find(m, left, right);
    if (merge)
        heap_push(
            w, (struct bpe_candidate){
                   .rank = merge->rank, .at = at, .left = left, .right = right, .id = merge->id});
}

static void work_merge(struct bpe_work *w, const struct merges *m, struct bpe_candidate c)
{
    struct bpe_node *left = &w->nodes[c.at];
    if (left->id != c.left || left->next < 0 || w->nodes[left->next].id != c.right)
        return; /* one of the two has merged since */
    struct bpe_node *right = &w->nodes[left->next];
    left->id = c.id;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0)
        w->nodes[left->next].previous = c.at;
    work_queue(w, m, left->previous);
    work_queue(w, m, c.at);
}

int bpe_encode(const struct merges *m, const int byte_ids[256], struct bpe_work *w,
               struct agon_str piece, struct agon_ids *ids, struct agon_err *err)
{
    int r = work_reserve(w, piece.size, err), n = (int)piece.size;
    if (r)
        return r;
    for (int i = 0; i < n; i++)
        w->nodes[i] = (struct bpe_node){.id = byte_ids[(unsigned char)piece.data[i]],
                                        .previous = i - 1,
                                        .next = i + 1 < n ? i + 1 : -1};
    w->n_heap = 0;
    for (int i = 0; i < n; i++)
        work_queue(w, m, i);
    while (w->n_heap > 0)
        work_merge(w, m, heap_pop(w));
    for (int i = 0; i >= 0 && n > 0; i = w->nodes[i].next)
        agon_ids_add(ids, w->nodes[i].id);
    return 0;
}
