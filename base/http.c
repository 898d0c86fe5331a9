/*
 * HTTP: see http.h. A transfer is one easy handle in its client's multi handle
 * and knows its place in the client's list, so that freeing the client ends all.
 *
 * allow_address is asked twice: when a socket is about to be opened, so that no
 * packet reaches a refused host, and before the request is sent, since a reused
 * connection may have been opened under another request's rules.
 */
#include "base/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HTTP_CONNECT_MS = 10 * 1000,
    HTTP_STALL_MS = 20 * 1000,
    HTTP_TOTAL_MS = 120 * 1000,
    HTTP_HEADER_BYTES_MAX = 256 << 10, /* libcurl 7.88 itself takes headers without end */
};

struct agon_http {
    CURLM *multi;                     /* owned */
    struct agon_http_transfer *first; /* owned; all that were started and not taken */
};

struct agon_http_transfer {
    struct agon_http *http; /* borrowed */
    struct agon_http_transfer *next, **link;
    CURL *easy;                 /* owned, in http->multi */
    struct curl_slist *headers; /* owned */
    int (*allow_address)(void *user, const char *ip, int port);
    void *user;
    struct agon_buf body;
    size_t header_bytes;
    bool done, refused, too_big;
    bool headers_ended; /* of the response that came last: 100 Continue is one, too */
    CURLcode result;    /* when done */
    const char *lie;    /* why a transfer that libcurl finds good is none, or NULL */
    char reason[CURL_ERROR_SIZE];
};

static CURLcode curl_started;

static void curl_start(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int agon_http_new(struct agon_http **ret, struct agon_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, curl_start);
    if (curl_started)
        return agon_fail(err, AGON_ESYS, "HTTP: %s", curl_easy_strerror(curl_started));
    struct agon_http *h AGON_AUTO(agon_http_freep) = calloc(1, sizeof(*h));
    if (!h || !(h->multi = curl_multi_init()))
        return agon_fail(err, AGON_ENOMEM, "HTTP: out of memory");
    *ret = AGON_STEAL(h);
    return 0;
}

static void transfer_free(struct agon_http_transfer *t)
{
    if (!t)
        return;
    if (t->link) {
        *t->link = t->next;
        if (t->next)
            t->next->link = t->link;
    }
    if (t->easy) {
        (void)curl_multi_remove_handle(t->http->multi, t->easy); /* fine if it never got in */
        curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->headers);
    agon_buf_deinit(&t->body);
    free(t);
}
AGON_DEFINE_FREEP(struct agon_http_transfer, transfer_free)

void agon_http_cancel(struct agon_http_transfer *t)
{
    transfer_free(t);
}

void agon_http_free(struct agon_http *h)
{
    if (!h)
        return;
    while (h->first)
        transfer_free(h->first);
    (void)curl_multi_cleanup(h->multi);
    free(h);
}

void agon_http_response_deinit(struct agon_http_response *r)
{
    agon_buf_deinit(&r->body);
}

static size_t on_body(char *data, size_t unit, size_t n, void *user)
{
    struct agon_http_transfer *t = user;
    size_t size = unit * n, left = t->body.size_max - t->body.size;
    t->too_big = size > left;
    agon_buf_add(&t->body, data, t->too_big ? left : size);
    return t->too_big || t->body.failed ? CURL_WRITEFUNC_ERROR : size;
}

static size_t on_header(char *data, size_t unit, size_t n, void *user)
{
    struct agon_http_transfer *t = user;
    /* What they say is read later by name, with curl_easy_header(). */
    t->headers_ended = unit * n > 0 && (data[0] == '\r' || data[0] == '\n');
    t->header_bytes += unit * n;
    return t->header_bytes > HTTP_HEADER_BYTES_MAX ? CURL_WRITEFUNC_ERROR : unit * n;
}

/* "::ffff:10.0.0.1" is 10.0.0.1 under another name; the rule shall see one name. */
static bool transfer_allows(struct agon_http_transfer *t, const char *ip, int port)
{
    if (!t->allow_address)
        return true;
    static const char mapped[] = "::ffff:";
    struct in_addr v4;
    if (strncasecmp(ip, mapped, strlen(mapped)) == 0 &&
        inet_pton(AF_INET, ip + strlen(mapped), &v4) == 1)
        ip += strlen(mapped);
    t->refused = t->allow_address(t->user, ip, port) != 0;
    return !t->refused;
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct agon_http_transfer *t = user;
    (void)purpose; /* always CURLSOCKTYPE_IPCXN here */
    union {
        struct sockaddr plain;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    size_t size = address->addrlen < sizeof(a) ? address->addrlen : sizeof(a);
    memcpy(&a, &address->addr, size);
    char ip[INET6_ADDRSTRLEN] = "";
    bool v6 = a.plain.sa_family == AF_INET6;
    int port = ntohs(v6 ? a.v6.sin6_port : a.v4.sin_port);
    if (!inet_ntop(a.plain.sa_family, v6 ? (void *)&a.v6.sin6_addr : (void *)&a.v4.sin_addr, ip,
                   sizeof(ip)))
        return CURL_SOCKET_BAD;
    if (!transfer_allows(t, ip, port))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_before_request(void *user, char *ip, char *local_ip, int port, int local_port)
{
    (void)local_ip, (void)local_port;
    return transfer_allows(user, ip, port) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* libcurl calls a header line over its limit (100 KiB) lack of memory, which would be our own
 * failure; before the headers have ended it is taken for the server's. */
static bool transfer_lacks_memory(const struct agon_http_transfer *t)
{
    curl_off_t answered_us = 0;
    if (t->body.failed)
        return true;
    if (t->result != CURLE_OUT_OF_MEMORY)
        return false;
    (void)curl_easy_getinfo(t->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered_us);
    return answered_us == 0 || t->headers_ended;
}

/* A list that is not lost when one more string finds no memory. */
static bool transfer_add_header(struct agon_http_transfer *t, const char *header)
{
    struct curl_slist *longer = curl_slist_append(t->headers, header);
    if (longer)
        t->headers = longer;
    return longer;
}

static bool transfer_set_headers(struct agon_http_transfer *t, const struct agon_http_request *req)
{
    /* Waiting for "100 Continue" costs a second with servers that never send it. */
    bool ok = transfer_add_header(t, "Expect:");
    for (const char *const *h = req->headers; h && *h; h++)
        ok = ok && transfer_add_header(t, *h);
    return ok && !curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

static long ms_or(int ms, int dflt)
{
    return ms > 0 ? ms : dflt;
}

static CURLcode transfer_set_limits(CURL *e, const struct agon_http_request *req)
{
    CURLcode rc = CURLE_OK;
    long stall_s = (ms_or(req->stall_ms, HTTP_STALL_MS) + 999) / 1000;
    if (!rc)
        rc =
            curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, ms_or(req->connect_ms, HTTP_CONNECT_MS));
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, ms_or(req->total_ms, HTTP_TOTAL_MS));
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, stall_s);
    if (!rc && req->body_bytes_max)
        rc = curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)req->body_bytes_max);
    return rc;
}

static CURLcode transfer_set_rules(struct agon_http_transfer *t)
{
    CURL *e = t->easy;
    CURLcode rc = curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    if (!rc) /* one parser of what servers send is enough */
        rc = curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    if (!rc && t->allow_address) /* behind a proxy the rule would see the proxy only */
        rc = curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_before_request);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    return rc;
}

static CURLcode transfer_set_request(struct agon_http_transfer *t,
                                     const struct agon_http_request *req)
{
    CURL *e = t->easy;
    CURLcode rc = curl_easy_setopt(e, CURLOPT_URL, req->url);
    if (!rc && req->user_agent)
        rc = curl_easy_setopt(e, CURLOPT_USERAGENT, req->user_agent);
    if (!rc && req->post_body) /* the size first: COPYPOSTFIELDS copies that much */
        rc = curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->post_size);
    if (!rc && req->post_body)
        rc = curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, req->post_body);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->reason);
    if (!rc)
        rc = curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    return rc;
}

static int multi_fail(struct agon_err *err, CURLMcode rc)
{
    return agon_fail(err, rc == CURLM_OUT_OF_MEMORY ? AGON_ENOMEM : AGON_ESYS, "HTTP: %s",
                     curl_multi_strerror(rc));
}

int agon_http_start(struct agon_http_transfer **ret, struct agon_http *h,
                    const struct agon_http_request *req, struct agon_err *err)
{
    struct agon_http_transfer *t AGON_AUTO(transfer_freep) = calloc(1, sizeof(*t));
    if (!t)
        return agon_fail(err, AGON_ENOMEM, "HTTP: out of memory");
    t->http = h;
    t->body = (struct agon_buf)AGON_BUF(req->body_bytes_max);
    t->allow_address = req->allow_address;
    t->user = req->user;
    t->easy = curl_easy_init();
    if (!t->easy || !transfer_set_headers(t, req))
        return agon_fail(err, AGON_ENOMEM, "HTTP: out of memory");
    CURLcode rc = transfer_set_rules(t);
    if (!rc)
        rc = transfer_set_limits(t->easy, req);
    if (!rc)
        rc = transfer_set_request(t, req);
    if (rc)
        return agon_fail(err, rc == CURLE_OUT_OF_MEMORY ? AGON_ENOMEM : AGON_ESYS, "HTTP: %s",
                         curl_easy_strerror(rc));
    CURLMcode mc = curl_multi_add_handle(h->multi, t->easy);
    if (mc)
        return multi_fail(err, mc);

    t->next = h->first;
    t->link = &h->first;
    if (t->next)
        t->next->link = &t->next;
    h->first = t;
    *ret = AGON_STEAL(t);
    return 0;
}

/* Mark the transfers that libcurl reports as over; how many. */
static int http_collect(struct agon_http *h)
{
    int n_done = 0, left;
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(h->multi, &left))) {
        struct agon_http_transfer *t = NULL;
        if (msg->msg != CURLMSG_DONE || curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t))
            continue;
        t->done = true;
        t->result = msg->data.result;
        n_done++;
    }
    return n_done;
}

int agon_http_poll(struct agon_http *h, int wait_ms, struct agon_err *err)
{
    int n_running;
    CURLMcode rc = curl_multi_perform(h->multi, &n_running);
    if (!rc && http_collect(h) == 0 && n_running > 0) {
        rc = curl_multi_poll(h->multi, NULL, 0, wait_ms, NULL);
        if (!rc)
            rc = curl_multi_perform(h->multi, &n_running);
        (void)http_collect(h);
    }
    return rc ? multi_fail(err, rc) : 0;
}

static void copy_text(char *to, size_t size, const char *from)
{
    struct agon_str cut = agon_str(from ? from : "");
    if (cut.size >= size)
        cut.size = size - 1;
    memcpy(to, cut.data, cut.size);
    to[cut.size] = '\0';
}

static void transfer_get_headers(struct agon_http_transfer *t, struct agon_http_response *r)
{
    char *text = NULL;
    if (!curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &text))
        copy_text(r->content_type, sizeof(r->content_type), text);
    text = NULL;
    /* A cut URL would be another URL: one that does not fit is none. */
    if (!curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &text) && text &&
        strlen(text) < sizeof(r->location))
        copy_text(r->location, sizeof(r->location), text);
    struct curl_header *header;
    if (curl_easy_header(t->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
        copy_text(r->retry_after, sizeof(r->retry_after), header->value);
}

/* Is the header's value a list of words out of `fine`? A header may come several times. */
static bool header_is(struct agon_http_transfer *t, const char *name, const char *const *fine)
{
    struct curl_header *h;
    for (size_t i = 0; curl_easy_header(t->easy, name, i, CURLH_HEADER, -1, &h) == CURLHE_OK; i++)
        for (const char *at = h->value; *at;) {
            size_t space = strspn(at, ", \t"), size = strcspn(at + space, ", \t");
            bool known = size == 0;
            for (const char *const *f = fine; !known && *f; f++)
                known = strlen(*f) == size && strncasecmp(*f, at + space, size) == 0;
            if (!known)
                return false;
            at += space + size;
        }
    return true;
}

static bool header_came(struct agon_http_transfer *t, const char *name)
{
    struct curl_header *h;
    return curl_easy_header(t->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK;
}

/* Do several Content-Length say the same? */
static bool lengths_agree(struct agon_http_transfer *t)
{
    struct curl_header *h;
    char first[32] = "";
    for (size_t i = 0;
         curl_easy_header(t->easy, "Content-Length", i, CURLH_HEADER, -1, &h) == CURLHE_OK; i++) {
        if (i == 0)
            snprintf(first, sizeof(first), "%.31s", h->value);
        else if (strcmp(first, h->value) != 0)
            return false;
    }
    return true;
}

/*
 * What libcurl takes and we do not: a body whose end two headers tell differently (RFC 9112 section
 * 6.3: it may be an attempt at smuggling), and one that is compressed although no compression
 * was asked for, so that nothing has unpacked it. NULL when all is well.
 */
static const char *transfer_lie(struct agon_http_transfer *t)
{
    static const char *const plain[] = {"identity", NULL}, *const chunked[] = {"chunked",
                                                                               "identity", NULL};
    if (!t->headers_ended)
        return "the headers broke off";
    if (!header_is(t, "Content-Encoding", plain))
        return "the body is compressed, which was not asked for";
    if (!header_is(t, "Transfer-Encoding", chunked))
        return "the body is encoded, which was not asked for";
    if (header_came(t, "Transfer-Encoding") && header_came(t, "Content-Length"))
        return "it has both a Content-Length and a Transfer-Encoding";
    return lengths_agree(t) ? NULL : "it has more than one Content-Length";
}

static enum agon_http_end transfer_end(const struct agon_http_transfer *t)
{
    if (t->result == CURLE_OK)
        return t->lie ? AGON_HTTP_FAILED : AGON_HTTP_OK;
    if (t->too_big || t->result == CURLE_FILESIZE_EXCEEDED)
        return AGON_HTTP_TOO_BIG;
    /* Of a host's several addresses one may be refused and the next be tried. */
    if (t->refused &&
        (t->result == CURLE_COULDNT_CONNECT || t->result == CURLE_ABORTED_BY_CALLBACK))
        return AGON_HTTP_REFUSED;
    return AGON_HTTP_FAILED;
}

static const char *transfer_reason(const struct agon_http_transfer *t, enum agon_http_end end)
{
    switch (end) {
    case AGON_HTTP_OK: return "";
    case AGON_HTTP_REFUSED: return "the address is not allowed";
    case AGON_HTTP_TOO_BIG: return "the body is over the limit";
    case AGON_HTTP_FAILED: break;
    }
    if (t->header_bytes > HTTP_HEADER_BYTES_MAX)
        return "the headers are over the limit";
    if (t->lie)
        return t->lie;
    if (t->result == CURLE_OUT_OF_MEMORY)
        return "a line of the headers is over the limit";
    return t->reason[0] ? t->reason : curl_easy_strerror(t->result);
}

int agon_http_take(struct agon_http_transfer *t, struct agon_http_response *ret,
                   struct agon_err *err)
{
    if (!t->done)
        return 0;
    if (transfer_lacks_memory(t)) {
        transfer_free(t);
        return agon_fail(err, AGON_ENOMEM, "HTTP: out of memory");
    }
    t->lie = t->result == CURLE_OK ? transfer_lie(t) : NULL;
    struct agon_http_response r = {.end = transfer_end(t)};
    if (r.end == AGON_HTTP_OK)
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &r.status); /* 0 at worst */
    transfer_get_headers(t, &r);
    copy_text(r.reason, sizeof(r.reason), transfer_reason(t, r.end));
    if (r.end == AGON_HTTP_OK && (r.status < 100 || r.status > 999)) { /* libcurl lets "1.1" pass */
        r.end = AGON_HTTP_FAILED;
        copy_text(r.reason, sizeof(r.reason), "the answer's status is no HTTP status");
    }
    curl_off_t wall_us = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &wall_us);
    r.wall_ms = wall_us / 1000;
    r.body = t->body;
    t->body = (struct agon_buf)AGON_BUF(0);
    transfer_free(t);
    *ret = r;
    return 1;
}

int agon_http_run(struct agon_http *h, const struct agon_http_request *req,
                  struct agon_http_response *ret, struct agon_err *err)
{
    struct agon_http_transfer *t AGON_AUTO(transfer_freep) = NULL;
    int r = agon_http_start(&t, h, req, err);
    while (!r) {
        r = agon_http_poll(h, 1000, err);
        if (r)
            break;
        r = agon_http_take(t, ret, err);
        if (r)
            t = NULL; /* over, well or not: take has freed it */
    }
    return r > 0 ? 0 : r;
}
