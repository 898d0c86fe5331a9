#pragma once
/* Private to the tokenizer's files: its tables. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer.h"

#include <pcre2.h>
#include <stdint.h>

/* ---- pre-tokenizer: split.c --------------------------------------------------------- */

enum split_behaviour {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_CONTIGUOUS,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
};
struct split {
    pcre2_code *code; /* owned */
    enum split_behaviour behaviour;
    bool invert; /* what matches is the text between */
};
enum { SPLITS_MAX = 16, PATTERN_BYTES_MAX = 1 << 16 };

int split_init(struct split *s, const char *pattern, bool literal, enum split_behaviour behaviour,
               bool invert, struct agon_err *err) AGON_MUST_USE;
void split_deinit(struct split *s);

/* What splitting needs besides the patterns: one for a call of agon_tokenizer_encode(). */
struct split_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    size_t text_size;
    int64_t ns_max, wall_begin, cpu_begin; /* what the text may take, and since when */
    int n_unwatched;                       /* searches since the clock was asked */
};
int split_work_init(struct split_work *w, size_t text_size, struct agon_err *err) AGON_MUST_USE;
void split_work_deinit(struct split_work *w);

/* Pass text through splits[0 .. n), each cutting the pieces of the one before, and call fn
 * for each piece that comes out, in order. */
typedef int piece_fn(void *user, struct agon_str piece, struct agon_err *err);
int split_all(const struct split *splits, int n, struct split_work *w, struct agon_str text,
              piece_fn *fn, void *user, struct agon_err *err) AGON_MUST_USE;

/* ---- BPE: bpe.c --------------------------------------------------------------------- */

struct merge {
    int left, right, rank, id;
};
struct merges {
    struct merge *slots; /* owned; open addressing, left < 0 is empty */
    size_t n_slots;      /* a power of two */
};
int merges_init(struct merges *m, size_t n, struct agon_err *err) AGON_MUST_USE;
void merges_deinit(struct merges *m);
/* False where the pair is there already. */
bool merges_add(struct merges *m, struct merge merge);
const struct merge *merges_find(const struct merges *m, int left, int right);

struct bpe_node {
    int id, previous, next; /* -1: none; id -1: merged away */
};
struct bpe_candidate {
    int rank, at, left, right, id;
};
/* Grows to the longest piece met. */
struct bpe_work {
    struct bpe_node *nodes;
    struct bpe_candidate *heap;
    size_t capacity, n_heap;
};
void bpe_work_deinit(struct bpe_work *w);
/* Append the ids of a piece whose single bytes have the ids byte_ids. */
int bpe_encode(const struct merges *m, const int byte_ids[256], struct bpe_work *w,
               struct agon_str piece, struct agon_ids *ids, struct agon_err *err) AGON_MUST_USE;

/* ---- the whole ---------------------------------------------------------------------- */

struct token {
    char *bytes; /* owned */
    size_t size;
    bool added, exists;
};
/* A trie over the bytes of the added tokens: edges (node, byte) -> node, hashed. */
struct trie_edge {
    int from, to; /* from < 0: empty */
    unsigned char byte;
};
struct trie {
    struct trie_edge *edges; /* owned */
    size_t n_slots;
    int *ids; /* owned; by node: the token that ends here, or -1 */
    int n_nodes;
};

struct agon_tokenizer {
    struct token *tokens; /* owned; by id */
    int n_tokens;
    int *by_text; /* owned; ids hashed by bytes, -1 is empty */
    size_t n_slots;
    int byte_ids[256];
    struct merges merges;
    struct trie trie;
    struct split splits[SPLITS_MAX];
    int n_splits;
    bool ignore_merges; /* a piece that is a token is that token */
};

/* The id of these bytes among the vocabulary, or -1. */
int tokenizer_find(const struct agon_tokenizer *t, struct agon_str bytes);
int trie_next(const struct trie *trie, int node, unsigned char byte);
