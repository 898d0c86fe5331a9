/*
 * The backend replay:FILE. A turn is looked up by its key and the digest of its request,
 * so a recording answers in any order, and a request that has changed since is told from
 * one that was never recorded. Where a turn was recorded twice the later line counts: it
 * is the one that a resumed run went on with.
 */
#include "base/file.h"
#include "base/json.h"
#define HASH_NONFATAL_OOM 1 /* an entry that could not be added has no table; the default exits */
#include "base/uthash.h"
#include "model/backend.h"
#include "model/jsontext.h"
#include "model/record.h"

#include <stdlib.h>

enum { RECORDING_BYTES_MAX = 1 << 30 };

struct line {             /* one recorded turn */
    struct line *earlier; /* of the same key; owned */
    char sha[AGON_SHA256_HEX];
    json_t *record; /* owned */
};
struct entry {
    char *key; /* owned */
    struct line *latest;
    UT_hash_handle hh;
};
struct count { /* the tokens of a prompt, by its digest */
    char sha[AGON_SHA256_HEX];
    int n_tokens;
    UT_hash_handle hh;
};
struct replay {
    struct agon_model base;
    struct entry *entries;
    struct count *counts;
    bool counts_tokens; /* the recorded model counts them; others estimate */
};

static void replay_free(struct agon_model *m)
{
    struct replay *replay = (struct replay *)m;
    struct entry *entry, *next;
    HASH_ITER(hh, replay->entries, entry, next)
    {
        HASH_DEL(replay->entries, entry);
        while (entry->latest) {
            struct line *line = entry->latest;
            entry->latest = line->earlier;
            json_decref(line->record);
            free(line);
        }
        free(entry->key);
        free(entry);
    }
    struct count *count, *next_count;
    HASH_ITER(hh, replay->counts, count, next_count)
    {
        HASH_DEL(replay->counts, count);
        free(count);
    }
    free(replay);
}

/* ---- loading ---- */

static struct entry *replay_entry(struct replay *replay, const char *key)
{
    struct entry *entry;
    HASH_FIND_STR(replay->entries, key, entry);
    if (entry)
        return entry;
    entry = calloc(1, sizeof(*entry));
    if (!entry || !(entry->key = strdup(key))) {
        free(entry);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, replay->entries, entry->key, strlen(entry->key), entry);
    if (!entry->hh.tbl) {
        free(entry->key);
        free(entry);
        return NULL;
    }
    return entry;
}

static int replay_add_count(struct replay *replay, const char *sha, const json_t *record)
{
    struct count *count;
    HASH_FIND_STR(replay->counts, sha, count);
    if (!count) {
        if (!(count = calloc(1, sizeof(*count))))
            return AGON_ENOMEM;
        memcpy(count->sha, sha, AGON_SHA256_HEX);
        HASH_ADD_STR(replay->counts, sha, count);
        if (!count->hh.tbl) {
            free(count);
            return AGON_ENOMEM;
        }
    }
    json_int_t n = json_integer_value(json_object_get(record, "n_prompt_tokens"));
    count->n_tokens = n > 0 && n <= INT32_MAX ? (int)n : 0;
    return 0;
}

static int replay_add_line(struct replay *replay, struct agon_str text, struct agon_err *err)
{
    json_t *record AGON_AUTO(agon_json_decrefp) = NULL;
    int r = agon_json_parse(&record, text, err);
    if (r)
        return r;
    const json_t *window = json_object_get(record, "window");
    if (json_is_integer(window)) { /* the head of a recording */
        json_int_t n = json_integer_value(window);
        if (n < 1 || n > INT32_MAX)
            return agon_fail(err, AGON_EINPUT, "window: %lld is no number of tokens", (long long)n);
        replay->base.window = (int)n;
        replay->counts_tokens = json_is_true(json_object_get(record, "counts_tokens"));
        return 0;
    }
    const char *key = agon_json_text(record, "key", NULL);
    const char *sha = agon_json_text(record, "request_sha256", "");
    const char *end = agon_json_text(record, "end", "");
    bool known =
        strcmp(end, "ok") == 0 || strcmp(end, "malformed") == 0 || strcmp(end, "length") == 0;
    if (!key || strlen(sha) != AGON_SHA256_HEX - 1 || !known ||
        !agon_json_text(record, "text", NULL))
        return agon_fail(err, AGON_EINPUT, "no recorded turn (key, request_sha256, end, text)");
    struct entry *entry = replay_entry(replay, key);
    struct line *line = calloc(1, sizeof(*line));
    if (!entry || !line || replay_add_count(replay, sha, record)) {
        free(line);
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    }
    memcpy(line->sha, sha, AGON_SHA256_HEX);
    line->record = json_incref(record);
    line->earlier = entry->latest;
    entry->latest = line;
    return 0;
}

static int replay_load(struct replay *replay, const char *path, struct agon_err *err)
{
    struct agon_buf file AGON_AUTO(agon_buf_deinit) = AGON_BUF(RECORDING_BYTES_MAX);
    int r = agon_file_read(&file, path, RECORDING_BYTES_MAX, err);
    const char *at = agon_buf_text(&file), *end = at + file.size;
    for (int number = 1; r == 0 && at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline)
            break; /* a torn last line: its turn was never seen by the run that wrote it */
        r = replay_add_line(replay, (struct agon_str){at, (size_t)(newline - at)}, err);
        if (r)
            return agon_err_in(err, r, "%s line %d", path, number);
        at = newline + 1;
    }
    return r;
}

/* ---- turns ---- */

static int replay_sample(struct agon_session *s, const struct agon_sampling *sampling,
                         struct agon_err *err)
{
    (void)s, (void)sampling, (void)err; /* the answer is there already: see replay_take() */
    return 0;
}

/* Why no line answers: the request of the latest line of this key differs, and where. */
static void explain_miss(struct agon_turn *turn, const struct agon_session *s,
                         const struct line *line, const json_t *digests)
{
    const json_t *then = json_object_get(line->record, "messages");
    size_t n_then = json_array_size(then), n_now = json_array_size(digests), i = 0;
    while (i < n_then && i < n_now &&
           json_equal(json_array_get(then, i), json_array_get(digests, i)))
        i++;
    if (i < n_then && i < n_now)
        agon_turn_fail(turn, "replay: turn '%.80s': message %zu (%.20s) is not the recorded one",
                       s->key, i, agon_json_text(json_array_get(s->messages, i), "role", ""));
    else if (n_then != n_now)
        agon_turn_fail(turn, "replay: turn '%.80s': %zu messages, recorded with %zu", s->key, n_now,
                       n_then);
    else
        agon_turn_fail(turn, "replay: turn '%.80s': the request differs from the recorded one",
                       s->key);
}

static int fill_recorded(struct agon_turn *turn, const struct agon_session *s, const json_t *record,
                         struct agon_err *err)
{
    const char *end = agon_json_text(record, "end", ""), *text = agon_json_text(record, "text", "");
    json_t *message = json_object_get(record, "message");
    turn->n_prompt_tokens = (int)json_integer_value(json_object_get(record, "n_prompt_tokens"));
    turn->n_tokens = (int)json_integer_value(json_object_get(record, "n_tokens"));
    if (strcmp(end, "ok") == 0 && !message)
        return agon_turn_fill_text(turn, agon_str(text), s->thinking, err);
    turn->end = strcmp(end, "ok") == 0       ? AGON_TURN_OK
                : strcmp(end, "length") == 0 ? AGON_TURN_LENGTH
                                             : AGON_TURN_MALFORMED;
    (void)snprintf(turn->reason, sizeof(turn->reason), "%s", agon_json_text(record, "reason", ""));
    turn->message = turn->end == AGON_TURN_OK ? json_deep_copy(message) : NULL;
    turn->text = strdup(text);
    return turn->text && (turn->message || turn->end != AGON_TURN_OK)
               ? 0
               : agon_fail(err, AGON_ENOMEM, "replay: out of memory");
}

static int replay_take(struct agon_session *s, struct agon_turn *ret, struct agon_err *err)
{
    struct replay *replay = (struct replay *)s->model;
    json_t *digests AGON_AUTO(agon_json_decrefp) = json_array();
    char sha[AGON_SHA256_HEX];
    struct entry *entry;
    if (!digests)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    int r = agon_request_digest(s, sha, digests, err);
    if (r)
        return r;
    HASH_FIND_STR(replay->entries, s->key, entry);
    const struct line *line = entry ? entry->latest : NULL;
    while (line && strcmp(line->sha, sha) != 0)
        line = line->earlier;
    if (line)
        r = fill_recorded(ret, s, line->record, err);
    else if (entry)
        explain_miss(ret, s, entry->latest, digests);
    else
        agon_turn_fail(ret, "replay: the recording holds no turn '%.100s'", s->key);
    return r ? r : 1;
}

/* What the recorded model counted for this conversation, where a turn was asked for then. */
static int replay_tokens(const struct agon_session *s)
{
    const struct replay *replay = (const struct replay *)s->model;
    char sha[AGON_SHA256_HEX];
    struct count *count = NULL;
    if (replay->counts_tokens && agon_request_digest(s, sha, NULL, NULL) == 0)
        HASH_FIND_STR(replay->counts, sha, count);
    return count ? count->n_tokens : agon_session_tokens_estimate(s);
}

static const struct agon_backend replay_backend = {
    .tokens = replay_tokens,
    .free = replay_free,
    .sample = replay_sample,
    .take = replay_take,
};

int agon_replay_model_open(struct agon_model **ret, const char *path,
                           const struct agon_model_options *options, struct agon_err *err)
{
    (void)options; /* none applies */
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct replay *replay = calloc(1, sizeof(*replay));
    if (!replay)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    m = &replay->base;
    m->backend = &replay_backend;
    m->window = AGON_WINDOW_DEFAULT;
    if (asprintf(&m->name, "replay:%s", path) < 0)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    int r = replay_load(replay, path, err);
    if (r)
        return agon_err_in(err, r, "replay");
    *ret = AGON_STEAL(m);
    return 0;
}
