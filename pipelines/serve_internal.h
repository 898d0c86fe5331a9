#pragma once
/* Private to serve*.c. */
#include "pipelines/serve.h"
#include "pipelines/serve_openai.h"

#include <microhttpd.h>

struct server;

/* One HTTP request, from its first header to its end. */
struct exchange {
    struct server *server;
    struct exchange *previous, *next;
    struct MHD_Connection *connection;
    char method[8], path[128];
    struct agon_buf body;
    json_t *json; /* the request; the ask borrows from it */
    struct agon_ask ask;
    struct agon_reply *reply;
    struct agon_answer answer;
    char id[48];
    struct agon_buf out;                 /* an answer, or what of a stream has not gone out */
    size_t n_out;                        /* bytes of out that went */
    bool suspended, streams, done, gone; /* done: out is all there will be */
    int64_t begun_ms;
    bool first_seen; /* its first id was drawn */
    unsigned status; /* of the answer */
};

enum { BUCKETS = 12 };
struct histogram {
    uint64_t counts[BUCKETS + 1], n;
    double sum;
};

struct server {
    struct agon_model *model;
    struct agon_replies *replies;
    struct agon_serve_options options;
    struct MHD_Daemon *daemon;
    struct exchange *first;
    int n_exchanges;
    bool stopping;
    bool resumed;   /* a connection, for which MHD has not been run since */
    uint64_t n_ids; /* for ids of answers */
    long started;
    struct histogram first_token, whole;
    struct {
        const char *endpoint;
        unsigned status;
        uint64_t n;
    } counts[64];
    int n_counts;
};

/* serve_exchange.c: what MHD calls. */
enum MHD_Result exchange_handle(void *user, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *data_size, void **state);
void exchange_completed(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode how);
/* After a step: answers that are whole, streams that have more. */
void exchange_progress(struct exchange *x);
/* Its client went away, or the server ends: cancel it and let MHD close it. */
void exchange_abandon(struct exchange *x);

/* serve_metrics.c */
void metrics_count(struct server *s, const char *path, unsigned status);
void metrics_observe(struct histogram *h, double seconds);
void metrics_write(const struct server *s, struct agon_buf *b);
