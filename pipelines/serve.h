#pragma once
/*
 * agon model serve: a local model behind OpenAI's HTTP API. One thread does everything: between two
 * steps of the engine, libmicrohttpd moves the connections on. What it promises: requests of all
 * connections are sampled in one batch; a client that goes away cancels its request; sizes, times
 * and numbers are bounded; on SIGTERM what was begun is finished, for a while.
 */
#include "base/err.h"
#include "model/replies.h"

#include <stdint.h>

struct agon_serve_options {
    const char *host;       /* address to listen at: 127.0.0.1 */
    int port;               /* 0: any that is free */
    const char *model_name; /* what clients call the model */
    const char *key;        /* demanded of /v1 as a bearer token; NULL: none */
    size_t body_bytes_max;
    int n_connections_max;
    int idle_seconds; /* a connection that moves nothing for so long is closed */
    int stop_seconds; /* how long what was begun may go on after SIGTERM */
};
enum { AGON_SERVE_CHOICES_MAX = 4096 }; /* under way or waiting; more are refused (429) */

/* Serve until *stop is set (by a signal's handler); prints the address to stderr once it listens.
 * AGON_ESYS where the address can't be had. */
int agon_serve(struct agon_model *m, const struct agon_serve_options *options,
               const volatile int *stop, struct agon_err *err) AGON_MUST_USE;
