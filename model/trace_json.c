/* Traces as JSON, and what is forced back from JSON: see trace.h. */
#include "base/json.h"
#include "base/text.h"
#include "model/trace.h"

#include <stdlib.h>
#include <string.h>

/* ---- base64 (RFC 4648, section 4) --------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_add(struct agon_buf *b, const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                        (n > 2 ? (uint32_t)data[i + 2] : 0);
        char four[4];
        for (size_t k = 0; k < 4; k++)
            four[k] = k > n ? '=' : alphabet[bits >> (18 - 6 * k) & 63];
        agon_buf_add(b, four, 4);
    }
}

/* The bytes of text in data[size]; false unless it is exactly that many. */
static bool base64_read(struct agon_str text, unsigned char *data, size_t size)
{
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n = 0, i;
    for (i = 0; i < text.size && text.data[i] != '='; i++) {
        const char *at = text.data[i] ? strchr(alphabet, text.data[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if ((n_bits += 6) < 8)
            continue;
        n_bits -= 8;
        if (n == size)
            return false;
        data[n++] = (unsigned char)(bits >> n_bits);
    }
    return n == size && text.size % 4 == 0 && text.size - i <= 2;
}

/* ---- writing ------------------------------------------------------------------------ */

static void ints_add(struct agon_buf *b, const char *key, const int *values, int n)
{
    agon_buf_addf(b, "\"%s\": [", key);
    for (int i = 0; i < n; i++)
        agon_buf_addf(b, i ? ", %d" : "%d", values[i]);
    agon_buf_addc(b, ']');
}

static void floats_add(struct agon_buf *b, const char *key, const float *values, int n)
{
    agon_buf_addf(b, "\"%s\": [", key);
    for (int i = 0; i < n; i++) {
        agon_buf_adds(b, i ? ", " : "");
        agon_json_dump_real(b, (double)values[i]);
    }
    agon_buf_addc(b, ']');
}

static void tensor_add(struct agon_buf *b, const char *key, const char *dtype, const void *data,
                       size_t item, const int shape[3])
{
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    agon_buf_addf(b,
                  ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%d, %d, %d], \"start\": 0, "
                  "\"valid_rows\": %d, \"data\": \"",
                  key, dtype, shape[0], shape[1], shape[2], shape[0]);
    base64_add(b, data, n * item);
    agon_buf_adds(b, "\"}");
}

/* Ids below 256 go as bytes, which is what readers of routing expect of most models. */
static void experts_add(struct agon_buf *b, const struct agon_trace *t)
{
    const int shape[3] = {t->n_rows, t->n_moe_layers, t->n_experts};
    if (t->n_experts_all > 256) {
        tensor_add(b, "routed_experts", "uint16", t->experts, sizeof(*t->experts), shape);
        return;
    }
    size_t n = (size_t)t->n_rows * (size_t)t->n_moe_layers * (size_t)t->n_experts;
    unsigned char *bytes = malloc(n + 1);
    if (!bytes) {
        b->failed = AGON_ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)t->experts[i];
    tensor_add(b, "routed_experts", "uint8", bytes, 1, shape);
    free(bytes);
}

void agon_trace_json(struct agon_buf *b, const struct agon_trace *t)
{
    agon_buf_addf(b, "\"weight_version\": %llu, ", (unsigned long long)t->weights_version);
    ints_add(b, "prompt_token_ids", t->ids, t->n_prompt);
    agon_buf_adds(b, ", ");
    ints_add(b, "token_ids", t->ids + t->n_prompt, t->n_sampled);
    agon_buf_adds(b, ", ");
    floats_add(b, "logprobs", t->logprobs, t->n_sampled);
    agon_buf_adds(b, ", ");
    floats_add(b, "logprobs_raw", t->logprobs_raw, t->n_sampled);
    if (t->mask_ids) {
        agon_buf_adds(b, ", \"sampling_mask\": {");
        ints_add(b, "ids", t->mask_ids, t->mask_offsets[t->n_sampled]);
        agon_buf_adds(b, ", ");
        ints_add(b, "offsets", t->mask_offsets, t->n_sampled + 1);
        agon_buf_addc(b, '}');
    }
    if (t->experts)
        experts_add(b, t);
    if (t->selected)
        tensor_add(b, "indexer_topk", "int32", t->selected, sizeof(*t->selected),
                   (const int[3]){t->n_rows, t->n_index_layers, t->index_topk});
}

/* ---- reading ------------------------------------------------------------------------ */

/* A list of integers in [min, max); *ret is the caller's. */
static int ints_parse(int **ret, size_t *ret_n, const json_t *list, const char *name, int64_t min,
                      int64_t max, struct agon_err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list))
        return agon_fail(err, AGON_EINPUT, "%s: not a list", name);
    int *values = calloc(n + 1, sizeof(*values));
    if (!values)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", name);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        int64_t value = json_integer_value(item);
        if (!json_is_integer(item) || value < min || value >= max) {
            free(values);
            return agon_fail(err, AGON_EINPUT, "%s[%zu] is not from %lld to %lld", name, i,
                             (long long)min, (long long)max - 1);
        }
        values[i] = (int)value;
    }
    *ret = values;
    *ret_n = n;
    return 0;
}

int agon_trace_mask_parse(int **ret_ids, int **ret_offsets, const json_t *mask, int n, int n_vocab,
                          struct agon_err *err)
{
    int *ids = NULL, *offsets = NULL;
    size_t n_ids = 0, n_offsets = 0;
    int r = ints_parse(&ids, &n_ids, json_object_get(mask, "ids"), "sampling_mask.ids", 0, n_vocab,
                       err);
    if (r == 0)
        r = ints_parse(&offsets, &n_offsets, json_object_get(mask, "offsets"),
                       "sampling_mask.offsets", 0, (int64_t)n_ids + 1, err);
    if (r == 0 && n_offsets != (size_t)n + 1)
        r = agon_fail(err, AGON_EINPUT, "sampling_mask.offsets: %zu entries for %d ids", n_offsets,
                      n);
    for (size_t i = 0; r == 0 && i <= (size_t)n; i++)
        if (i == 0 ? offsets[0] != 0 : offsets[i] <= offsets[i - 1])
            r = agon_fail(err, AGON_EINPUT, "sampling_mask.offsets: begin at 0, and rise");
    for (size_t i = 0; r == 0 && i < (size_t)n; i++)
        for (int k = offsets[i] + 1; r == 0 && k < offsets[i + 1]; k++)
            if (ids[k] <= ids[k - 1])
                r = agon_fail(err, AGON_EINPUT, "sampling_mask.ids: not ascending at %d", k);
    if (r) {
        free(ids);
        free(offsets);
        return r;
    }
    *ret_ids = ids;
    *ret_offsets = offsets;
    return 0;
}

/* Data of n ids in the dtype that it names, as uint16_t. */
static int experts_data(uint16_t *to, size_t n, const json_t *routing, struct agon_err *err)
{
    const json_t *data = json_object_get(routing, "data");
    struct agon_str text = {json_string_value(data), json_string_length(data)};
    const char *dtype = agon_json_text(routing, "dtype", "");
    bool bytes = strcmp(dtype, "uint8") == 0;
    if (!bytes && strcmp(dtype, "uint16") != 0)
        return agon_fail(err, AGON_EINPUT,
                         "routed_experts.dtype: '%.20s' is neither uint8 nor uint16", dtype);
    if (!text.data || !base64_read(text, (unsigned char *)to, bytes ? n : 2 * n))
        return agon_fail(err, AGON_EINPUT,
                         "routed_experts.data: not the base64 of %zu values of %s", n, dtype);
    for (size_t i = n; bytes && i-- > 0;) /* widened in place, from behind */
        to[i] = ((unsigned char *)to)[i];
    return 0;
}

static int experts_check(const uint16_t *experts, size_t n_choices, int n_experts,
                         int n_experts_all, struct agon_err *err)
{
    for (size_t i = 0; i < n_choices; i++, experts += n_experts)
        for (int k = 0; k < n_experts; k++) {
            bool twice = false;
            for (int o = 0; o < k; o++)
                twice |= experts[o] == experts[k];
            if (experts[k] >= n_experts_all || twice)
                return agon_fail(err, AGON_EINPUT, "routed_experts: expert %d %s", experts[k],
                                 twice ? "stands twice in one choice" : "does not exist");
        }
    return 0;
}

int agon_trace_experts_parse(uint16_t **ret, int *ret_rows, const json_t *routing, int n_moe_layers,
                             int n_experts, int n_experts_all, struct agon_err *err)
{
    const json_t *shape = json_object_get(routing, "shape");
    int64_t rows = json_integer_value(json_array_get(shape, 0));
    if (json_array_size(shape) != 3 || rows < 0 || rows > 1 << 24 ||
        json_integer_value(json_array_get(shape, 1)) != n_moe_layers ||
        json_integer_value(json_array_get(shape, 2)) != n_experts)
        return agon_fail(err, AGON_EINPUT, "routed_experts.shape: not [rows, %d, %d]", n_moe_layers,
                         n_experts);
    if (json_integer_value(json_object_get(routing, "start")) != 0)
        return agon_fail(err, AGON_EINPUT, "routed_experts.start: only 0, the first position");
    size_t n = (size_t)rows * (size_t)n_moe_layers * (size_t)n_experts;
    uint16_t *experts = calloc(n + 1, sizeof(*experts));
    if (!experts)
        return agon_fail(err, AGON_ENOMEM, "routed_experts: out of memory");
    int r = experts_data(experts, n, routing, err);
    if (r == 0)
        r = experts_check(experts, (size_t)rows * (size_t)n_moe_layers, n_experts, n_experts_all,
                          err);
    if (r) {
        free(experts);
        return r;
    }
    *ret = experts;
    *ret_rows = (int)rows;
    return 0;
}

int agon_trace_flags_parse(unsigned *ret, const json_t *names, struct agon_err *err)
{
    static const char *const known[] = {"tokens", "mask", "routing", "indexer"};
    unsigned flags = 0;
    if (!names || json_is_null(names) || json_is_false(names)) {
        *ret = 0;
        return 0;
    }
    if (json_is_true(names)) {
        *ret = AGON_TRACE_TOKENS | AGON_TRACE_MASK;
        return 0;
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        int k = 0;
        while (k < 4 && !(name && strcmp(name, known[k]) == 0))
            k++;
        if (k == 4)
            return agon_fail(err, AGON_EINPUT,
                             "record: '%.40s' is none of tokens, mask, routing, indexer",
                             name ? name : "?");
        flags |= 1U << k | AGON_TRACE_TOKENS;
    }
    if (!json_is_array(names))
        return agon_fail(err, AGON_EINPUT, "record: neither true nor a list of names");
    *ret = flags;
    return 0;
}
