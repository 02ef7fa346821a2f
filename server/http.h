/* The stats port: a small HTTP server (libevent's evhttp) in the main loop.
 *
 *   GET /metrics      Prometheus text          GET /healthz   200 while the process runs
 *   GET /stats.json   the report as JSON       GET /readyz    200 while it can serve, else 503 with the reason
 *   GET /shards.json  the directory, shard by shard
 *   GET /copy/files, /copy/file?name=NAME   with http_share: registrations, for another server that begins (numberctl fetch)
 *   GET /             a page for people (page/): figures, what is wrong and what to do about it, charts of the last five minutes
 *
 * HTTP, or HTTPS with http_set_tls. Loopback may ask for all of it. Who comes from elsewhere must show a token with the role operate ("Authorization: Bearer
 * TOKEN"), but for /healthz and /readyz; without tokens (which numberd allows beyond loopback only when told to) anybody may. Copies want a token with the role replicate from everywhere; without tokens they are for
 * loopback alone.
 *
 * Some 32 to 64 connections are open at once, and closed when nothing comes for 10 seconds; further ones wait in the kernel. So the
 * port never takes the descriptors that lookups need.
 *
 * Main thread only. Reports come from `collect`; rendering never touches the lookup path. */
#ifndef NUMBERD_SERVER_HTTP_H
#define NUMBERD_SERVER_HTTP_H

#include <event2/event.h>

#include "server/access/tokens.h"
#include "server/stats.h"
#include "server/tls.h"

/* What other servers may copy; called in the main thread. */
struct http_files {
    char *(*list)(
        const void *context); /* {"files": [{"name", "bytes"}]}, to be freed; NULL: memory is short */
    /* A descriptor of the file of that name, and its size; -1: it is not there. */
    int (*open)(const void *context, const char *name, uint64_t *bytes);
    const void *context;
};

struct http;

/* `listener` is a listening, non-blocking socket that the server then owns. `tokens` may be NULL; it takes a reference of its
 * own. NULL when memory is short. */
struct http *http_create(struct event_base *base, int listener, struct tokens *tokens,
                         void (*collect)(void *context, struct stats_report *report), void *context);

/* From now on these tokens count. Takes a reference of its own. */
void http_replace_tokens(struct http *http, struct tokens *tokens);

/* From now on these may be copied. False when memory is short. */
bool http_share(struct http *http, const struct http_files *files);

/* From now on connections speak HTTPS with it. Takes a reference of its own. Without a call they speak HTTP. */
void http_set_tls(struct http *http, struct tls_context *tls);

void http_destroy(struct http *http);

#endif
