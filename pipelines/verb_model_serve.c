/* agon model serve: a local model behind OpenAI's API. See serve.h. */
#include "base/opt.h"
#include "pipelines/serve.h"
#include "pipelines/verb.h"

#include <libgen.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct serve_options {
    int64_t threads, batch, cache_mb, port, body_mb, connections, idle, stop;
    const char *host, *name, *device;
    bool routing, indexer;
};
#define AT(field) offsetof(struct serve_options, field)
static const struct agon_opt table[] = {
    {"host", 0, AGON_OPT_TEXT, AT(host), 0, 0, "ADDRESS", "where to listen; 0.0.0.0: everywhere"},
    {"port", 'p', AGON_OPT_INT, AT(port), 0, 65535, "N", "0: one that is free"},
    {"name", 0, AGON_OPT_TEXT, AT(name), 0, 0, "NAME",
     "what clients call the model; without it the folder's name"},
    {"threads", 'j', AGON_OPT_INT, AT(threads), 0, 256, "N", "to compute with; 0: one a core"},
    {"device", 0, AGON_OPT_TEXT, AT(device), 0, 0, "cpu|cuda", AGON_VERB_DEVICE},
    {"batch", 'b', AGON_OPT_INT, AT(batch), 0, 4096, "N",
     "choices that decode together; 0: 64, on a GPU 1024"},
    {"cache-mb", 0, AGON_OPT_INT, AT(cache_mb), 0, 1 << 24, "MB", AGON_VERB_CACHE},
    {"body-mb", 0, AGON_OPT_INT, AT(body_mb), 1, 1024, "N", "largest request, in MB"},
    {"connections", 0, AGON_OPT_INT, AT(connections), 1, 65536, "N", "most at a time"},
    {"idle", 0, AGON_OPT_INT, AT(idle), 1, 86400, "SECONDS",
     "a connection on which nothing moves is closed"},
    {"stop", 0, AGON_OPT_INT, AT(stop), 0, 86400, "SECONDS",
     "how long requests may go on after SIGTERM"},
    {"routing", 0, AGON_OPT_FLAG, AT(routing), 0, 0, NULL,
     "keep every position's experts, so that requests may record them"},
    {"indexer", 0, AGON_OPT_FLAG, AT(indexer), 0, 0, NULL, "keep every position's selection too"},
    {0}};

static volatile int stop_asked;

static void on_signal(int number)
{
    (void)number; /* both mean the end */
    stop_asked = 1;
}

static int serve(const char *dir, const struct serve_options *o, struct agon_err *err)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    char spec[4200], path[4200];
    struct agon_model_options model = {.device = o->device,
                                       .n_threads = (int)o->threads,
                                       .n_batch_max = (int)o->batch,
                                       .cache_mb = (int)o->cache_mb,
                                       .record = (o->routing ? AGON_TRACE_ROUTING : 0) |
                                                 (o->indexer ? AGON_TRACE_INDEXER : 0)};
    (void)snprintf(path, sizeof(path), "%s", dir); /* a longer path exists nowhere */
    (void)snprintf(spec, sizeof(spec), "local:%s", dir);
    struct agon_serve_options options = {.host = o->host,
                                         .port = (int)o->port,
                                         .model_name = o->name ? o->name : basename(path),
                                         .key = getenv("AGON_SERVE_KEY"),
                                         .body_bytes_max = (size_t)o->body_mb << 20,
                                         .n_connections_max = (int)o->connections,
                                         .idle_seconds = (int)o->idle,
                                         .stop_seconds = (int)o->stop};
    struct sigaction action = {.sa_handler = on_signal};
    int r = agon_model_open(&m, spec, &model, err);
    if (r)
        return r;
    if (options.key && !*options.key)
        options.key = NULL;
    (void)sigaction(SIGTERM, &action, NULL); /* can't fail for these */
    (void)sigaction(SIGINT, &action, NULL);
    return agon_serve(m, &options, &stop_asked, err);
}

int agon_verb_model_serve(int argc, char **argv)
{
    static const char about[] =
        "Serves /v1/chat/completions, /v1/completions, /v1/models, /health and /metrics until "
        "SIGTERM.\nWith AGON_SERVE_KEY in the environment, /v1 demands it as a bearer token.";
    struct serve_options o = {.host = "127.0.0.1",
                              .port = 8000,
                              .body_mb = 32,
                              .connections = 1024,
                              .idle = 120,
                              .stop = 30};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(table, &o, "agon model serve DIR [OPTION]...", about, 1, 1, argc, argv,
                          &n, &status))
        return status;
    return serve(argv[1], &o, &err) ? agon_verb_fail("serve", &err) : AGON_EXIT_OK;
}
