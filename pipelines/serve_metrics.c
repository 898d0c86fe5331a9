/* GET /metrics: Prometheus' text format, version 0.0.4. */
#include "pipelines/serve_internal.h"

#include <string.h>

static const double bounds[BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60};

void metrics_observe(struct histogram *h, double seconds)
{
    int i = 0;
    while (i < BUCKETS && seconds > bounds[i])
        i++;
    h->counts[i]++;
    h->n++;
    h->sum += seconds;
}

/* Only paths that exist are labels: others would let a client make any number of series. */
static const char *endpoint_of(const char *path)
{
    static const char *const known[] = {"/v1/chat/completions", "/v1/completions", "/v1/models",
                                        "/health", "/metrics"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(path, known[i]) == 0)
            return known[i];
    return "other";
}

void metrics_count(struct server *s, const char *path, unsigned status)
{
    const char *endpoint = endpoint_of(path);
    int i = 0;
    while (i < s->n_counts && !(s->counts[i].endpoint == endpoint && s->counts[i].status == status))
        i++;
    if (i == (int)(sizeof(s->counts) / sizeof(s->counts[0])))
        return; /* six endpoints and some ten statuses: not reached */
    if (i == s->n_counts) {
        s->counts[i].endpoint = endpoint;
        s->counts[i].status = status;
        s->n_counts++;
    }
    s->counts[i].n++;
}

static void write_head(struct agon_buf *b, const char *name, const char *type, const char *help)
{
    agon_buf_addf(b, "# HELP agon_%s %s\n# TYPE agon_%s %s\n", name, help, name, type);
}

static void write_value(struct agon_buf *b, const char *name, const char *type, const char *help,
                        uint64_t value)
{
    write_head(b, name, type, help);
    agon_buf_addf(b, "agon_%s %llu\n", name, (unsigned long long)value);
}

static void write_histogram(struct agon_buf *b, const char *name, const char *help,
                            const struct histogram *h)
{
    uint64_t n = 0;
    write_head(b, name, "histogram", help);
    for (int i = 0; i < BUCKETS; i++) {
        n += h->counts[i];
        agon_buf_addf(b, "agon_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i],
                      (unsigned long long)n);
    }
    agon_buf_addf(b, "agon_%s_bucket{le=\"+Inf\"} %llu\nagon_%s_sum %.6f\nagon_%s_count %llu\n",
                  name, (unsigned long long)h->n, name, h->sum, name, (unsigned long long)h->n);
}

void metrics_write(const struct server *s, struct agon_buf *b)
{
    struct agon_replies_stats t;
    agon_replies_stats(s->replies, &t);
    write_head(b, "http_requests_total", "counter", "Answers by endpoint and status.");
    for (int i = 0; i < s->n_counts; i++)
        agon_buf_addf(b, "agon_http_requests_total{endpoint=\"%s\",status=\"%u\"} %llu\n",
                      s->counts[i].endpoint, s->counts[i].status,
                      (unsigned long long)s->counts[i].n);
    write_value(b, "choices_running", "gauge", "Choices that are being sampled.",
                (uint64_t)t.n_running);
    write_value(b, "choices_waiting", "gauge", "Choices that wait.", (uint64_t)t.n_waiting);
    write_value(b, "prompt_tokens_total", "counter", "Ids of prompts, by choice.", t.n_prompt);
    write_value(b, "prompt_tokens_cached_total", "counter", "Of these, taken from the cache.",
                t.n_prompt_cached);
    write_value(b, "generation_tokens_total", "counter", "Ids drawn.", t.n_generated);
    write_value(b, "engine_steps_total", "counter", "Forward passes.", t.n_steps);
    write_value(b, "preemptions_total", "counter", "Choices that the full cache made wait.",
                t.n_preempted);
    write_value(b, "cache_positions_free", "gauge", "Positions that the cache has left.",
                (uint64_t)t.room);
    write_value(b, "weight_version", "gauge", "How often weights were replaced.",
                agon_model_version(s->model));
    write_histogram(b, "time_to_first_token_seconds", "From a request's end to its first id.",
                    &s->first_token);
    write_histogram(b, "request_seconds", "From a request's end to its answer's.", &s->whole);
}
