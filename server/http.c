/* The stats port; see http.h. */
#include "server/http.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "server/address.h"
#include "server/page/page.h"

#define TIMEOUT_SECONDS 10
#define HTTP_UNAUTHORIZED 401 /* libevent has no names for these */
#define HTTP_FORBIDDEN 403
#define HEADERS_BYTES_MAX 8192
#define ACCEPT_PAUSE_US 100000
/* Connections at once, roughly: events of the main loop are what can be counted, and a connection has one or two. */
#define EVENTS_MAX 64

struct http {
    struct evhttp *server;
    struct event_base *base;
    struct evconnlistener *listener; /* the server's */
    struct event *resume;
    int events_without;      /* of the main loop: with nobody connected */
    struct tokens *tokens;   /* a reference; NULL: there are none */
    struct tls_context *tls; /* the same; NULL: plain */
    struct http_files files;
    void (*collect)(void *context, struct stats_report *report);
    void *context;
};

static void add_headers(struct evhttp_request *request, const char *type)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
    evhttp_add_header(
        headers, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}

/* Sends `text` and frees it; NULL means that memory was short. */
static void reply(struct evhttp_request *request, int status, const char *type, char *text)
{
    if (text == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, "out of memory");
        return;
    }
    add_headers(request, type);
    evbuffer_add_printf(evhttp_request_get_output_buffer(request), "%s", text);
    evhttp_send_reply(request, status, NULL, NULL);
    free(text);
}

static bool is_local(struct evhttp_request *request)
{
    const struct sockaddr *peer = evhttp_connection_get_addr(evhttp_request_get_connection(request));
    struct sockaddr_storage storage = {0};
    uint8_t ip[16];
    if (peer == NULL)
        return false;
    memcpy(&storage, peer,
           peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    address_ip(&storage, ip);
    return address_ip_is_loopback(ip);
}

/* False when the request was answered with what is missing: a token with the role. */
static bool shows_token(struct evhttp_request *request, const struct http *http, uint32_t role,
                        const char *missing)
{
    static const char scheme[] = "Bearer ";
    struct grant grant;
    const char *shown = evhttp_find_header(evhttp_request_get_input_headers(request), "Authorization");
    bool is_known = shown != NULL && strncmp(shown, scheme, sizeof scheme - 1) == 0 &&
                    tokens_find(http->tokens, (const uint8_t *)shown + sizeof scheme - 1,
                                strlen(shown + sizeof scheme - 1), &grant);
    if (is_known && (grant.roles & role) != 0)
        return true;
    if (!is_known)
        evhttp_add_header(evhttp_request_get_output_headers(request), "WWW-Authenticate", "Bearer");
    evhttp_send_error(request, is_known ? HTTP_FORBIDDEN : HTTP_UNAUTHORIZED, missing);
    return false;
}

static bool is_allowed(struct evhttp_request *request, const struct http *http)
{
    return http->tokens == NULL || is_local(request) ||
           shows_token(request, http, ROLE_OPERATE, "a token with the role operate is needed");
}

/* Who copies has all registrations: being on this machine is no claim to that where there are tokens. */
static bool may_copy(struct evhttp_request *request, const struct http *http)
{
    if (http->tokens != NULL)
        return shows_token(request, http, ROLE_REPLICATE, "a token with the role replicate is needed");
    if (is_local(request))
        return true;
    evhttp_send_error(request, HTTP_FORBIDDEN, "without tokens copies are for this machine alone");
    return false;
}

static struct stats_report collect(const struct http *http)
{
    struct stats_report report = {0};
    http->collect(http->context, &report);
    return report;
}

static void get_metrics(struct evhttp_request *request, void *context)
{
    if (!is_allowed(request, context))
        return;
    struct stats_report report = collect(context);
    reply(request, HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", stats_render_prometheus(&report));
}

static void get_stats_json(struct evhttp_request *request, void *context)
{
    if (!is_allowed(request, context))
        return;
    struct stats_report report = collect(context);
    reply(request, HTTP_OK, "application/json", stats_render_json(&report));
}

static void get_shards_json(struct evhttp_request *request, void *context)
{
    if (!is_allowed(request, context))
        return;
    struct stats_report report = collect(context);
    reply(request, HTTP_OK, "application/json", stats_render_shards(&report));
}

static void get_page(struct evhttp_request *request, void *context)
{
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    struct evbuffer *out = evhttp_request_get_output_buffer(request);
    if (!is_allowed(request, context))
        return;
    for (size_t i = 0; i < page_file_count; i++) {
        const struct page_file *file = &page_files[i];
        if (strcmp(path, file->path) != 0)
            continue;
        add_headers(request, file->type);
        (void)evbuffer_add_reference(out, file->bytes, file->length, NULL, NULL);
        evhttp_send_reply(request, HTTP_OK, NULL, NULL);
        return;
    }
    evhttp_send_error(request, HTTP_NOTFOUND, NULL);
}

static void get_health(struct evhttp_request *request, void *context)
{
    (void)context;
    evbuffer_add_printf(evhttp_request_get_output_buffer(request), "ok\n");
    evhttp_send_reply(request, HTTP_OK, NULL, NULL);
}

static void get_readiness(struct evhttp_request *request, void *context)
{
    struct stats_report report = collect(context);
    struct evbuffer *out = evhttp_request_get_output_buffer(request);
    if (report.ready)
        evbuffer_add_printf(out, "ready%s\n",
                            report.journal.read_only ? "; read-only: the journal cannot be written" : "");
    else if (report.loading)
        evbuffer_add_printf(out, "not ready: %s, %u percent\n", report.not_ready, report.loading_percent);
    else
        evbuffer_add_printf(out, "not ready: %s\n", report.not_ready);
    evhttp_send_reply(request, report.ready ? HTTP_OK : HTTP_SERVUNAVAIL, NULL, NULL);
}

/* --- copies --- */

static void get_copy_files(struct evhttp_request *request, void *context)
{
    const struct http *http = context;
    if (may_copy(request, http))
        reply(request, HTTP_OK, "application/json", http->files.list(http->files.context));
}

/* The file's bytes go from the kernel's memory to the socket's. */
static bool add_file(struct evhttp_request *request, int fd, uint64_t bytes)
{
    if (bytes == 0) {
        close(fd);
        return true;
    }
    return evbuffer_add_file(evhttp_request_get_output_buffer(request), fd, 0, (ev_off_t)bytes) == 0;
}

static void get_copy_file(struct evhttp_request *request, void *context)
{
    const struct http *http = context;
    struct evkeyvalq query;
    uint64_t bytes = 0;
    if (!may_copy(request, http))
        return;
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    if (evhttp_parse_query_str(text == NULL ? "" : text, &query) != 0) {
        evhttp_send_error(request, HTTP_BADREQUEST, NULL);
        return;
    }
    const char *name = evhttp_find_header(&query, "name");
    int fd = name == NULL ? -1 : http->files.open(http->files.context, name, &bytes);
    evhttp_clear_headers(&query);
    if (fd < 0) {
        evhttp_send_error(request, HTTP_NOTFOUND, NULL);
        return;
    }
    add_headers(request, "application/octet-stream");
    if (add_file(request, fd, bytes))
        evhttp_send_reply(request, HTTP_OK, NULL, NULL);
    else
        evhttp_send_error(request, HTTP_INTERNAL, "the file cannot be read");
}

bool http_share(struct http *http, const struct http_files *files)
{
    http->files = *files;
    return evhttp_set_cb(http->server, "/copy/files", get_copy_files, http) == 0 &&
           evhttp_set_cb(http->server, "/copy/file", get_copy_file, http) == 0;
}

/* --- connections --- */

static void on_enable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    evconnlistener_enable(context);
}

/* The context is evhttp's own, so all that is needed is taken from the listener. */
static void on_accept_error(struct evconnlistener *listener, void *context)
{
    (void)context;
    /* Mostly out of descriptors: without a pause the loop would spin on the same connection. */
    const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};
    if (event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_enable, listener, &pause) == 0)
        evconnlistener_disable(listener);
}

static void pause_if_crowded(struct http *http)
{
    if (event_base_get_num_events(http->base, EVENT_BASE_COUNT_ADDED) - http->events_without < EVENTS_MAX)
        return;
    evconnlistener_disable(http->listener);
    event_add(http->resume, &(struct timeval){.tv_usec = ACCEPT_PAUSE_US});
}

static void on_resume(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct http *http = context;
    evconnlistener_enable(http->listener);
    pause_if_crowded(http);
}

/* What a new connection speaks through; NULL: what evhttp takes by itself. */
static struct bufferevent *speak(struct event_base *base, void *context)
{
    struct http *http = context;
    pause_if_crowded(http);
    SSL *ssl = http->tls == NULL ? NULL : tls_accept(http->tls, -1);
    return ssl == NULL ? NULL
                       : bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                        BEV_OPT_CLOSE_ON_FREE);
}

/* Takes the socket over, also on failure. */
static bool start_accepting(struct http *http, struct event_base *base, int fd)
{
    struct evconnlistener *listener =
        evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (listener == NULL)
        close(fd);
    if (listener == NULL || evhttp_bind_listener(http->server, listener) == NULL) {
        if (listener != NULL)
            evconnlistener_free(listener);
        return false;
    }
    /* After the binding, which sets callbacks and context of its own. */
    evconnlistener_set_error_cb(listener, on_accept_error);
    http->listener = listener;
    http->resume = event_new(base, -1, 0, on_resume, http);
    http->events_without = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED);
    evhttp_set_bevcb(http->server, speak, http);
    return http->resume != NULL;
}

static bool serve_page(struct http *http)
{
    for (size_t i = 0; i < page_file_count; i++)
        if (evhttp_set_cb(http->server, page_files[i].path, get_page, http) != 0)
            return false;
    return true;
}

struct http *http_create(struct event_base *base, int listener, struct tokens *tokens,
                         void (*collect_report)(void *context, struct stats_report *report), void *context)
{
    struct http *http = calloc(1, sizeof *http);
    struct evhttp *server = http == NULL ? NULL : evhttp_new(base);
    if (server == NULL) {
        close(listener);
        free(http);
        return NULL;
    }
    *http = (struct http){.server = server,
                          .base = base,
                          .tokens = tokens == NULL ? NULL : tokens_acquire(tokens),
                          .collect = collect_report,
                          .context = context};
    evhttp_set_allowed_methods(server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_timeout(server, TIMEOUT_SECONDS);
    evhttp_set_max_headers_size(server, HEADERS_BYTES_MAX);
    evhttp_set_max_body_size(server, 0);
    if (!start_accepting(http, base, listener)) {
        http_destroy(http);
        return NULL;
    }
    if (evhttp_set_cb(server, "/metrics", get_metrics, http) != 0 ||
        evhttp_set_cb(server, "/stats.json", get_stats_json, http) != 0 ||
        evhttp_set_cb(server, "/shards.json", get_shards_json, http) != 0 ||
        evhttp_set_cb(server, "/healthz", get_health, http) != 0 ||
        evhttp_set_cb(server, "/readyz", get_readiness, http) != 0 || !serve_page(http)) {
        http_destroy(http);
        return NULL;
    }
    return http;
}

void http_set_tls(struct http *http, struct tls_context *tls)
{
    tls_context_release(http->tls);
    http->tls = tls_context_acquire(tls);
}

void http_replace_tokens(struct http *http, struct tokens *tokens)
{
    tokens_release(http->tokens);
    http->tokens = tokens_acquire(tokens);
}

void http_destroy(struct http *http)
{
    if (http == NULL)
        return;
    evhttp_free(http->server);
    if (http->resume != NULL)
        event_free(http->resume);
    tokens_release(http->tokens);
    tls_context_release(http->tls);
    free(http);
}
