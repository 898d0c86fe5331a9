/*
 * Reading tokenizer.json (the format of Hugging Face's tokenizers library). The file may come
 * from anyone: counts, sizes and ids are bounded, and a feature that is not done exactly as the
 * library does it is refused by name.
 */
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "model/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum {
    FILE_BYTES_MAX = 128 << 20,
    TOKENS_MAX = 1 << 22,
    MERGES_MAX = 1 << 22,
    TOKEN_BYTES_MAX = 1 << 12,
    ADDED_BYTES_MAX = 1 << 20, /* of all added tokens: the trie's size */
};

/* ---- the byte alphabet -------------------------------------------------------------- */

/* GPT-2's: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on. */
static bool byte_is_itself(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static void alphabet_fill(int16_t byte_of[512])
{
    int n_moved = 0;
    for (int i = 0; i < 512; i++)
        byte_of[i] = -1;
    for (int byte = 0; byte < 256; byte++)
        byte_of[byte_is_itself(byte) ? byte : 256 + n_moved++] = (int16_t)byte;
}

/* The bytes that a token of the vocabulary stands for; false where a character is none of the
 * alphabet's. out has room for text.size. */
static bool alphabet_decode(const int16_t byte_of[512], struct agon_str text, char *out,
                            size_t *ret_size)
{
    size_t n = 0;
    for (size_t at = 0; at < text.size;) {
        int32_t code = agon_utf8_next(text, &at);
        if (code < 0 || code >= 512 || byte_of[code] < 0)
            return false;
        out[n++] = (char)byte_of[code];
    }
    *ret_size = n;
    return true;
}

/* ---- vocabulary --------------------------------------------------------------------- */

struct load {
    struct agon_tokenizer *t;
    int n_vocab;
    int16_t byte_of[512];
    struct agon_err *err;
};

/* Absent and null are dflt; what is neither true nor false would silently be another tokenizer. */
static int load_flag(const struct load *l, const json_t *object, const char *name, bool dflt,
                     bool *ret)
{
    const json_t *value = json_object_get(object, name);
    if (value && !json_is_null(value) && !json_is_boolean(value))
        return agon_fail(l->err, AGON_EINPUT, "%s: neither true nor false", name);
    *ret = json_is_boolean(value) ? json_is_true(value) : dflt;
    return 0;
}

static int id_check(const struct load *l, const json_t *id, const char *token)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= l->n_vocab)
        return agon_fail(l->err, AGON_EINPUT, "token '%.80s': its id is not from 0 to %d", token,
                         l->n_vocab - 1);
    return 0;
}

static int token_set(struct load *l, int id, const char *bytes, size_t size)
{
    struct token *token = &l->t->tokens[id];
    token->bytes = malloc(size + 1);
    if (!token->bytes)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    memcpy(token->bytes, bytes, size);
    token->bytes[size] = '\0';
    token->size = size;
    token->exists = true;
    if (id >= l->t->n_tokens)
        l->t->n_tokens = id + 1;
    return 0;
}

static void by_text_add(struct agon_tokenizer *t, int id)
{
    const struct token *token = &t->tokens[id];
    size_t at = XXH3_64bits(token->bytes, token->size) & (t->n_slots - 1);
    while (t->by_text[at] >= 0)
        at = (at + 1) & (t->n_slots - 1);
    t->by_text[at] = id;
}

static int load_vocab(struct load *l, const json_t *vocab)
{
    struct agon_tokenizer *t = l->t;
    size_t n = json_object_size(vocab);
    if (n == 0 || n > TOKENS_MAX || n > (size_t)l->n_vocab)
        return agon_fail(l->err, AGON_EINPUT, "model.vocab: %zu tokens, the model has %d ids", n,
                         l->n_vocab);
    t->n_slots = 16;
    while (t->n_slots < 2 * n)
        t->n_slots *= 2;
    t->tokens = calloc((size_t)l->n_vocab, sizeof(*t->tokens));
    t->by_text = malloc(t->n_slots * sizeof(*t->by_text));
    if (!t->tokens || !t->by_text)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    memset(t->by_text, 0xff, t->n_slots * sizeof(*t->by_text)); /* every slot -1 */
    const char *text;
    json_t *id;
    char bytes[TOKEN_BYTES_MAX];
    json_object_foreach((json_t *)(uintptr_t)vocab, text, id)
    {
        size_t size = strlen(text);
        int r = id_check(l, id, text), at = (int)json_integer_value(id);
        if (r)
            return r;
        if (size == 0 || size > TOKEN_BYTES_MAX)
            return agon_fail(l->err, AGON_EINPUT, "token of id %d: %zu bytes", at, size);
        if (t->tokens[at].exists)
            return agon_fail(l->err, AGON_EINPUT, "tokens '%.80s' and '%.80s' have the same id %d",
                             t->tokens[at].bytes, text, at);
        /* A token with other characters can only be an added one: that is checked later. */
        bool plain = alphabet_decode(l->byte_of, agon_str(text), bytes, &size);
        if ((r = plain ? token_set(l, at, bytes, size) : token_set(l, at, text, strlen(text))))
            return r;
        if (plain)
            by_text_add(t, at);
        else
            t->tokens[at].added = true; /* until load_added() confirms it */
    }
    return 0;
}

static int load_bytes(struct load *l)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[1] = {(char)byte};
        int id = tokenizer_find(l->t, (struct agon_str){text, 1});
        if (id < 0 || l->t->tokens[id].added)
            return agon_fail(l->err, AGON_EINPUT, "model.vocab: byte 0x%02x has no token", byte);
        l->t->byte_ids[byte] = id;
    }
    return 0;
}

/* ---- added tokens ------------------------------------------------------------------- */

static int trie_init(struct load *l, size_t n_bytes)
{
    struct trie *trie = &l->t->trie;
    trie->n_slots = 16;
    while (trie->n_slots < 2 * (n_bytes + 1))
        trie->n_slots *= 2;
    trie->edges = malloc(trie->n_slots * sizeof(*trie->edges));
    trie->ids = malloc((n_bytes + 1) * sizeof(*trie->ids));
    if (!trie->edges || !trie->ids)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    for (size_t i = 0; i < trie->n_slots; i++)
        trie->edges[i].from = -1;
    trie->ids[0] = -1;
    trie->n_nodes = 1;
    return 0;
}

/* False where the token is there already. */
static bool trie_add(struct trie *trie, struct agon_str text, int id)
{
    int node = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        int next = trie_next(trie, node, byte);
        if (next < 0) {
            next = trie->n_nodes++;
            trie->ids[next] = -1;
            size_t at = ((size_t)node * 257 + byte) * 0x9E3779B1U & (trie->n_slots - 1);
            while (trie->edges[at].from >= 0)
                at = (at + 1) & (trie->n_slots - 1);
            trie->edges[at] = (struct trie_edge){.from = node, .to = next, .byte = byte};
        }
        node = next;
    }
    if (trie->ids[node] >= 0)
        return false;
    trie->ids[node] = id;
    return true;
}

static int load_one_added(struct load *l, const json_t *entry)
{
    const char *content = agon_json_text(entry, "content", "");
    const json_t *id = json_object_get(entry, "id");
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    int r = id_check(l, id, content), at = (int)json_integer_value(id);
    bool set = false;
    for (size_t i = 0; i < 3 && r == 0; i++)
        if ((r = load_flag(l, entry, refused[i], false, &set)) == 0 && set)
            r = agon_fail(l->err, AGON_EINPUT, "added token '%.80s': %s is not supported", content,
                          refused[i]);
    if (r)
        return r;
    struct token *token = &l->t->tokens[at];
    struct agon_str text = agon_str(content);
    if (text.size == 0 || text.size > TOKEN_BYTES_MAX)
        return agon_fail(l->err, AGON_EINPUT, "added token of id %d: %zu bytes", at, text.size);
    if (token->exists && !agon_str_equal(text, agon_tokenizer_text(l->t, at)))
        return agon_fail(l->err, AGON_EINPUT, "added token '%.80s' and '%.80s' have the same id %d",
                         content, token->bytes, at);
    if (!token->exists && (r = token_set(l, at, text.data, text.size)))
        return r;
    token->added = true;
    if (!trie_add(&l->t->trie, text, at))
        return agon_fail(l->err, AGON_EINPUT, "added token '%.80s' stands there twice", content);
    return 0;
}

static int load_added(struct load *l, const json_t *added)
{
    size_t n = json_array_size(added), n_bytes = 0;
    for (size_t i = 0; i < n; i++)
        n_bytes += strlen(agon_json_text(json_array_get(added, i), "content", ""));
    if (n_bytes > ADDED_BYTES_MAX)
        return agon_fail(l->err, AGON_EINPUT, "added_tokens: over %d bytes", ADDED_BYTES_MAX);
    int r = trie_init(l, n_bytes);
    for (size_t i = 0; i < n && r == 0; i++)
        r = load_one_added(l, json_array_get(added, i));
    for (int id = 0; id < l->t->n_tokens && r == 0; id++) {
        const struct token *token = &l->t->tokens[id];
        if (!token->exists)
            r = agon_fail(l->err, AGON_EINPUT, "no token has the id %d", id);
        else if (token->added && agon_tokenizer_added(l->t, agon_tokenizer_text(l->t, id)) != id)
            r = agon_fail(l->err, AGON_EINPUT,
                          "token '%.80s' is written in no byte alphabet and is no added token",
                          token->bytes);
    }
    return r;
}

/* ---- merges ------------------------------------------------------------------------- */

/* The two halves of a merge, in either spelling; they point into the JSON. */
static bool merge_halves(const json_t *merge, struct agon_str *ret_left, struct agon_str *ret_right)
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        if (!left || !right)
            return false;
        *ret_left = agon_str(left);
        *ret_right = agon_str(right);
        return true;
    }
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    if (!space)
        return false;
    *ret_left = (struct agon_str){text, (size_t)(space - text)};
    *ret_right = agon_str(space + 1);
    return true;
}

static int load_one_merge(struct load *l, const json_t *merge, int rank)
{
    struct agon_str left, right;
    char bytes[2 * TOKEN_BYTES_MAX];
    size_t n_left = 0, n_right = 0;
    if (!merge_halves(merge, &left, &right) || left.size > TOKEN_BYTES_MAX ||
        right.size > TOKEN_BYTES_MAX || !alphabet_decode(l->byte_of, left, bytes, &n_left) ||
        !alphabet_decode(l->byte_of, right, bytes + n_left, &n_right))
        return agon_fail(l->err, AGON_EINPUT, "model.merges[%d]: no pair of tokens", rank);
    struct merge made = {.rank = rank,
                         .left = tokenizer_find(l->t, (struct agon_str){bytes, n_left}),
                         .right = tokenizer_find(l->t, (struct agon_str){bytes + n_left, n_right}),
                         .id = tokenizer_find(l->t, (struct agon_str){bytes, n_left + n_right})};
    if (made.left < 0 || made.right < 0 || made.id < 0)
        return agon_fail(l->err, AGON_EINPUT,
                         "model.merges[%d]: '%.*s' + '%.*s' or its parts are not in the vocabulary",
                         rank, AGON_STR_ARG(left), AGON_STR_ARG(right));
    if (l->t->tokens[made.id].added)
        return agon_fail(l->err, AGON_EINPUT,
                         "model.merges[%d]: makes '%.80s', which is an added token: plain text "
                         "could spell it",
                         rank, l->t->tokens[made.id].bytes);
    if (!merges_add(&l->t->merges, made))
        return agon_fail(l->err, AGON_EINPUT, "model.merges[%d]: stands there twice", rank);
    return 0;
}

static int load_merges(struct load *l, const json_t *merges)
{
    size_t n = json_array_size(merges);
    if (!json_is_array(merges) || n > MERGES_MAX)
        return agon_fail(l->err, AGON_EINPUT, "model.merges: missing, or over %d", MERGES_MAX);
    int r = merges_init(&l->t->merges, n, l->err);
    for (size_t i = 0; i < n && r == 0; i++)
        r = load_one_merge(l, json_array_get(merges, i), (int)i);
    return r;
}

static int load_model(struct load *l, const json_t *model)
{
    static const char *const only_empty[] = {"unk_token", "continuing_subword_prefix",
                                             "end_of_word_suffix", "dropout"};
    const char *type = agon_json_text(model, "type", "BPE");
    if (strcmp(type, "BPE") != 0)
        return agon_fail(l->err, AGON_EINPUT, "model.type: '%.40s' is not supported (only BPE)",
                         type);
    for (size_t i = 0; i < 4; i++) {
        const json_t *value = json_object_get(model, only_empty[i]);
        const char *text = json_string_value(value);
        if (value && !json_is_null(value) && !(text && !text[0]))
            return agon_fail(l->err, AGON_EINPUT, "model.%s: not supported", only_empty[i]);
    }
    int r = load_flag(l, model, "ignore_merges", false, &l->t->ignore_merges);
    return r ? r : load_vocab(l, json_object_get(model, "vocab"));
}

/* ---- pre-tokenizer ------------------------------------------------------------------ */

/* GPT-2's, which ByteLevel applies with use_regex. */
static const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static int add_split(struct load *l, const char *pattern, bool literal,
                     enum split_behaviour behaviour, bool invert)
{
    if (l->t->n_splits == SPLITS_MAX)
        return agon_fail(l->err, AGON_EINPUT, "pre_tokenizer: more than %d splits", SPLITS_MAX);
    int r = split_init(&l->t->splits[l->t->n_splits], pattern, literal, behaviour, invert, l->err);
    if (r)
        return agon_err_in(l->err, r, "pre_tokenizer");
    l->t->n_splits++;
    return 0;
}

static int load_split(struct load *l, const json_t *stage)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *behaviour = agon_json_text(stage, "behavior", "");
    const json_t *pattern = json_object_get(stage, "pattern");
    const char *regex = agon_json_text(pattern, "Regex", NULL);
    const char *text = agon_json_text(pattern, "String", NULL);
    bool invert;
    int r = load_flag(l, stage, "invert", false, &invert);
    if (r)
        return r;
    for (int i = 0; i < 5; i++)
        if (strcmp(behaviour, names[i]) == 0 && (regex || text))
            return add_split(l, regex ? regex : text, !regex, (enum split_behaviour)i, invert);
    return agon_fail(l->err, AGON_EINPUT,
                     "pre_tokenizer: Split without pattern, or behavior '%.40s'", behaviour);
}

static int load_byte_level(struct load *l, const json_t *stage)
{
    bool prefix, regex;
    int r = load_flag(l, stage, "add_prefix_space", false, &prefix);
    if (r || (r = load_flag(l, stage, "use_regex", true, &regex)))
        return r;
    if (prefix)
        return agon_fail(l->err, AGON_EINPUT, "pre_tokenizer: add_prefix_space is not supported");
    return regex ? add_split(l, byte_level_pattern, false, SPLIT_ISOLATED, false) : 0;
}

static int load_stage(struct load *l, const json_t *stage, bool *has_bytes)
{
    const char *type = agon_json_text(stage, "type", "");
    bool digits;
    if (strcmp(type, "Split") == 0)
        return load_split(l, stage);
    if (strcmp(type, "Digits") == 0) {
        int r = load_flag(l, stage, "individual_digits", false, &digits);
        return r ? r
                 : add_split(l, "\\p{N}", false, digits ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        *has_bytes = true;
        return load_byte_level(l, stage);
    }
    return agon_fail(l->err, AGON_EINPUT, "pre_tokenizer: '%.40s' is not supported", type);
}

static int load_pre_tokenizer(struct load *l, const json_t *pre)
{
    const json_t *stages = json_object_get(pre, "pretokenizers");
    bool sequence = strcmp(agon_json_text(pre, "type", ""), "Sequence") == 0, has_bytes = false;
    size_t n = sequence ? json_array_size(stages) : 1;
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        if (has_bytes)
            return agon_fail(l->err, AGON_EINPUT, "pre_tokenizer: ByteLevel is not its last stage");
        r = load_stage(l, sequence ? json_array_get(stages, i) : pre, &has_bytes);
    }
    if (r == 0 && !has_bytes)
        return agon_fail(l->err, AGON_EINPUT,
                         "pre_tokenizer: no ByteLevel (only byte-level BPE is supported)");
    return r;
}

static int check_normalizer(struct load *l, const json_t *normalizer)
{
    bool empty = !normalizer || json_is_null(normalizer) ||
                 (strcmp(agon_json_text(normalizer, "type", ""), "Sequence") == 0 &&
                  json_array_size(json_object_get(normalizer, "normalizers")) == 0);
    return empty ? 0
                 : agon_fail(l->err, AGON_EINPUT, "normalizer: '%.40s' is not supported",
                             agon_json_text(normalizer, "type", ""));
}

/* ---- the file ----------------------------------------------------------------------- */

static int load_root(struct load *l, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    int r;
    if (!json_is_object(model))
        return agon_fail(l->err, AGON_EINPUT, "no model");
    alphabet_fill(l->byte_of);
    if ((r = check_normalizer(l, json_object_get(root, "normalizer"))) ||
        (r = load_model(l, model)) || (r = load_added(l, json_object_get(root, "added_tokens"))) ||
        (r = load_bytes(l)) || (r = load_merges(l, json_object_get(model, "merges"))))
        return r;
    return load_pre_tokenizer(l, json_object_get(root, "pre_tokenizer"));
}

int agon_tokenizer_parse(struct agon_tokenizer **ret, struct agon_str json, int n_vocab,
                         struct agon_err *err)
{
    json_t *root = NULL;
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = calloc(1, sizeof(*t));
    if (!t)
        return agon_fail(err, AGON_ENOMEM, "tokenizer: out of memory");
    int r = agon_json_parse(&root, json, err);
    if (r)
        return r;
    struct load l = {.t = t, .n_vocab = n_vocab, .err = err};
    r = load_root(&l, root);
    json_decref(root);
    if (r)
        return r;
    *ret = AGON_STEAL(t);
    return 0;
}

int agon_tokenizer_load(struct agon_tokenizer **ret, const char *dir, int n_vocab,
                        struct agon_err *err)
{
    char path[4096];
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_BYTES_MAX);
    if ((size_t)snprintf(path, sizeof(path), "%s/tokenizer.json", dir) >= sizeof(path))
        return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
    int r = agon_file_read(&text, path, FILE_BYTES_MAX, err);
    if (r)
        return r; /* names the path */
    r = agon_tokenizer_parse(ret, agon_buf_str(&text), n_vocab, err);
    return r ? agon_err_in(err, r, "%s", path) : 0;
}

void agon_tokenizer_free(struct agon_tokenizer *t)
{
    if (!t)
        return;
    for (int i = 0; t->tokens && i < t->n_tokens; i++)
        free(t->tokens[i].bytes);
    for (int i = 0; i < t->n_splits; i++)
        split_deinit(&t->splits[i]);
    merges_deinit(&t->merges);
    free(t->trie.edges);
    free(t->trie.ids);
    free(t->tokens);
    free(t->by_text);
    free(t);
}
