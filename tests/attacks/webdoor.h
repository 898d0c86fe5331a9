#pragma once
/* The door of attacks by web servers: hostile_server.py, started once for a program. */
#include "base/http.h"
#include "synth/retrieval/fetcher.h"
#include "synth/retrieval/parser.h"
#include "tests/attacks/battery.h"

/* What robots.txt of the third port and those after it does. */
enum web_port {
    WEB_PLAIN,
    WEB_OTHER,
    WEB_STARS,
    WEB_RULES,
    WEB_LINE,
    WEB_DELAY,
    WEB_BINARY,
    WEB_ENDLESS,
    WEB_REDIRECT,
    WEB_HANG,
    WEB_PORTS
};
int web_port(enum web_port which); /* 0: it could not be started */
const char *web_url(enum web_port which, const char *path);

/* One request with short limits (1 s without a byte, 3 s in all, 100,000 bytes). */
struct agon_http_response web_get(const char *path);
/* Reads robots.txt in this process: link ../retrieval/parse_local.c. */
struct agon_parser *web_parser(void);
/* One fetch by a fetcher of its own that may go to the server's ports; what it says is in web_said.
 */
int web_fetch(enum web_port which, const char *path);
extern char web_said[4096];
/* How often the server was asked for something that has this in it. */
int web_seen(const char *part);
