/* A blocking client of numberd; see client.h. */
#include "server/client.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/ssl.h>

#include "server/address.h"
#include "server/clock.h"

/* Of a host, those that are tried. */
#define ADDRESSES_MAX 8
/* Between two tries to connect: the first pause, which doubles, and the longest. */
#define PAUSE_MS_FIRST 10u
#define PAUSE_MS_MAX 1000u

struct client {
    struct stream stream;
    struct tls_context *tls; /* a reference, or NULL */
    char *server;
    char *token;    /* NULL: none */
    char *tls_name; /* NULL: none needed */
    unsigned timeout_ms;
    unsigned patience_ms;
    uint32_t next_id;
    uint32_t awaited_id;
    uint8_t *out;
    size_t out_bytes;
    size_t out_capacity;
    uint8_t *in; /* WIRE_REPLY_BYTES_MAX */
    size_t in_start;
    size_t in_end;
    bool has_timed_out;      /* the last wait */
    bool is_passing;         /* the failure: another try may do */
    unsigned retry_after_ms; /* 0: over another connection */
    uint8_t last_code;       /* of the reply that was not OK, or that came unasked */
    char error[256];
};

static bool fail(struct client *client, const char *what)
{
    snprintf(client->error, sizeof client->error, "%s", what);
    client->is_passing = false;
    return false;
}

static bool fail_for_now(struct client *client, const char *what)
{
    (void)fail(client, what);
    client->is_passing = true;
    client->retry_after_ms = 0;
    return false;
}

static bool fail_errno(struct client *client, const char *what)
{
    snprintf(client->error, sizeof client->error, "%s: %s", what, strerror(errno));
    client->is_passing = true;
    client->retry_after_ms = 0;
    return false;
}

/* --- connecting --- */

/* Connects within the time, since a blocking connect may take minutes. */
static bool connect_socket(struct client *client, const struct address *address)
{
    const struct sockaddr *any = (const struct sockaddr *)&address->storage;
    int one = 1;
    client->stream.fd = socket(any->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->stream.fd < 0)
        return fail_errno(client, "cannot make a socket");
    setsockopt(client->stream.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->stream.fd, any, address->length) != 0) {
        int error = errno;
        socklen_t size = sizeof error;
        struct pollfd writable = {.fd = client->stream.fd, .events = POLLOUT};
        if (error == EINPROGRESS && poll(&writable, 1, (int)client->timeout_ms) == 1)
            getsockopt(client->stream.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        else if (error == EINPROGRESS)
            error = ETIMEDOUT;
        errno = error;
        if (error != 0)
            return fail_errno(client, "cannot connect");
    }
    return true;
}

static bool speak_tls(struct client *client)
{
    if (client->tls == NULL)
        return true;
    client->stream.ssl =
        client->tls_name == NULL ? NULL : tls_connect(client->tls, client->stream.fd, client->tls_name);
    return client->stream.ssl != NULL || fail(client, "out of memory for TLS, or the server's name is none");
}

static bool wait_for(struct client *client, short events)
{
    struct pollfd ready = {.fd = client->stream.fd, .events = events};
    int count;
    do
        count = poll(&ready, 1, (int)client->timeout_ms);
    while (count < 0 && errno == EINTR);
    client->has_timed_out = count == 0;
    if (count == 0)
        return fail_for_now(client, "the server did not answer in time");
    return count > 0 || fail_errno(client, "cannot wait for the server");
}

static uint8_t *reserve_out(struct client *client, uint32_t bytes)
{
    if (client->out_capacity - client->out_bytes < bytes) {
        size_t capacity = client->out_bytes + bytes + 4096;
        uint8_t *grown = realloc(client->out, capacity);
        if (grown == NULL) {
            fail(client, "out of memory");
            return NULL;
        }
        client->out = grown;
        client->out_capacity = capacity;
    }
    uint8_t *room = client->out + client->out_bytes;
    client->out_bytes += bytes;
    return room;
}

static bool say_hello(struct client *client)
{
    struct wire_reply reply;
    struct wire_hello_reply hello;
    const char *token = client->token;
    size_t token_bytes = token == NULL ? 0 : strlen(token);
    if (token_bytes > WIRE_TOKEN_BYTES_MAX)
        return fail(client, "the token is longer than 255 bytes");
    uint8_t *room = reserve_out(client, wire_request_bytes(WIRE_HELLO, 0, (uint32_t)token_bytes));
    if (room == NULL)
        return false;
    wire_encode_hello(room, client->next_id++, token, (uint16_t)token_bytes);
    return client_finish(client, &reply) &&
           (wire_get_hello_reply(&reply, &hello) || fail(client, "the server's hello is malformed"));
}

/* What is kept for the next time. False: memory is short. */
static bool keep_options(struct client *client, const struct client_options *options)
{
    char host[ADDRESS_HOST_BYTES];
    const char *name = options->tls_name;
    if (options->tls != NULL) {
        client->tls = tls_context_acquire(options->tls);
        if (name == NULL && address_host(options->server, host))
            name = host;
    }
    client->timeout_ms = options->timeout_ms == 0 ? CLIENT_TIMEOUT_MS_DEFAULT : options->timeout_ms;
    client->patience_ms = options->patience_ms;
    client->server = strdup(options->server);
    client->token = options->token == NULL ? NULL : strdup(options->token);
    client->tls_name = name == NULL ? NULL : strdup(name);
    client->in = malloc(WIRE_REPLY_BYTES_MAX);
    return client->server != NULL && client->in != NULL &&
           (options->token == NULL || client->token != NULL) && (name == NULL || client->tls_name != NULL);
}

/* From half of it to all of it, by the clock's last digits: clients do not come in step. */
static void pause_some(unsigned ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ns = (long)ms * 1000000;
    ns -= now.tv_nsec / 1000 * 7919 % (ns / 2);
    (void)nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
}

/* The first of the host's addresses that takes a connection. */
static bool reach(struct client *client)
{
    struct address addresses[ADDRESSES_MAX];
    char text[ADDRESS_TEXT_BYTES];
    char what[sizeof client->error];
    unsigned count =
        address_parse_all(client->server, WIRE_PORT_DEFAULT, addresses, ADDRESSES_MAX, what, sizeof what);
    if (count == 0)
        return fail(client, what);
    for (unsigned i = 0; i < count; i++) {
        if (connect_socket(client, &addresses[i]))
            return true;
        stream_close(&client->stream);
        client->stream.fd = -1;
    }
    address_format(&addresses[0], text);
    snprintf(what, sizeof what, "%s", client->error);
    snprintf(client->error, sizeof client->error, "%s: %.150s; is numberd running there (--server)?", text,
             what);
    return false;
}

static bool try_to_connect(struct client *client)
{
    char what[sizeof client->error];
    stream_close(&client->stream);
    client->stream = (struct stream){.fd = -1};
    client->out_bytes = client->in_start = client->in_end = 0;
    client->next_id = client->awaited_id = 1;
    if (!reach(client))
        return false;
    if (speak_tls(client) && say_hello(client))
        return true;
    snprintf(what, sizeof what, "%s", client->error);
    snprintf(client->error, sizeof client->error, "%.64s: %.180s", client->server, what);
    return false;
}

bool client_reconnect(struct client *client)
{
    unsigned pause_ms = PAUSE_MS_FIRST;
    uint64_t end_ms = clock_precise_ms() + client->patience_ms;
    while (!try_to_connect(client)) {
        if (!client->is_passing || clock_precise_ms() >= end_ms)
            return false;
        pause_some(pause_ms);
        pause_ms = 2 * pause_ms < PAUSE_MS_MAX ? 2 * pause_ms : PAUSE_MS_MAX;
    }
    return true;
}

struct client *client_create(const struct client_options *options)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->stream.fd = -1;
    if (keep_options(client, options))
        return client;
    client_close(client);
    return NULL;
}

struct client *client_connect(const struct client_options *options, char *error, size_t error_bytes)
{
    struct client *client = client_create(options);
    if (client != NULL && client_reconnect(client))
        return client;
    snprintf(error, error_bytes, "%s", client == NULL ? "out of memory" : client_error(client));
    client_close(client);
    return NULL;
}

bool client_read_token(const char *path, char token[static WIRE_TOKEN_BYTES_MAX + 1])
{
    static_assert(WIRE_TOKEN_BYTES_MAX == 255, "the width below");
    FILE *file = fopen(path, "re");
    bool good = file != NULL && fscanf(file, "%255s", token) == 1;
    if (file != NULL)
        fclose(file);
    return good;
}

void client_close(struct client *client)
{
    if (client == NULL)
        return;
    stream_close(&client->stream);
    tls_context_release(client->tls);
    free(client->server);
    free(client->token);
    free(client->tls_name);
    free(client->out);
    free(client->in);
    free(client);
}

struct stream client_detach(struct client *client)
{
    struct stream stream = client->stream;
    client->stream = (struct stream){.fd = -1};
    client_close(client);
    return stream;
}

const char *client_error(const struct client *client)
{
    return client->error;
}

uint8_t client_code(const struct client *client)
{
    return client->last_code;
}

bool client_is_passing(const struct client *client)
{
    return client->is_passing;
}

bool client_has_timed_out(const struct client *client)
{
    return client->has_timed_out;
}

/* --- sending --- */

bool client_send_numbers(struct client *client, enum wire_type type, const struct wire_origin *origin,
                         const uint64_t *numbers, uint16_t count)
{
    uint8_t flags = origin == NULL ? 0 : WIRE_FLAG_ORIGIN;
    uint8_t *room = reserve_out(client, wire_request_bytes((uint8_t)type, flags, count));
    if (room == NULL)
        return false;
    wire_encode_numbers(room, (uint8_t)type, client->next_id++, origin, numbers, count);
    return true;
}

bool client_send_register(struct client *client, const struct client_registration *registrations,
                          uint16_t count)
{
    uint8_t *room = reserve_out(client, wire_request_bytes(WIRE_REGISTER, 0, count));
    if (room == NULL)
        return false;
    wire_encode_header(room, WIRE_REGISTER, 0, client->next_id++, count);
    room += WIRE_REQUEST_HEADER_BYTES;
    for (size_t i = 0; i < count; i++, room += WIRE_REGISTER_BYTES)
        wire_put_register_entry(room, registrations[i].number, registrations[i].account,
                                registrations[i].flags);
    return true;
}

bool client_send_move(struct client *client, uint64_t from, uint64_t to)
{
    uint8_t *room = reserve_out(client, wire_request_bytes(WIRE_MOVE, 0, 1));
    if (room == NULL)
        return false;
    wire_encode_header(room, WIRE_MOVE, 0, client->next_id++, 1);
    wire_put_u64(room + WIRE_REQUEST_HEADER_BYTES, from);
    wire_put_u64(room + WIRE_REQUEST_HEADER_BYTES + 8, to);
    return true;
}

bool client_send_plain(struct client *client, enum wire_type type)
{
    uint8_t *room = reserve_out(client, wire_request_bytes((uint8_t)type, 0, 0));
    if (room == NULL)
        return false;
    wire_encode_plain(room, (uint8_t)type, client->next_id++);
    return true;
}

/* A transfer was refused with errno: waits until it may go on. False: it may not. */
static bool wait_again(struct client *client, short events)
{
    if (errno == EAGAIN)
        return wait_for(client, events);
    if (errno == EINTR)
        return true;
    if (errno == EACCES)
        return fail(client, X509_verify_cert_error_string(SSL_get_verify_result(client->stream.ssl)));
    if (errno == EPROTO)
        return fail(client, "the server does not speak TLS 1.3, or refuses our certificate");
    return fail_errno(client, "the connection to the server broke");
}

bool client_flush(struct client *client)
{
    struct stream *stream = &client->stream;
    for (size_t done = 0; done < client->out_bytes;) {
        ssize_t sent = stream_send(stream, client->out + done, client->out_bytes - done);
        if (sent >= 0)
            done += (size_t)sent;
        else if (!wait_again(client, stream->send_wants_input ? POLLIN : POLLOUT))
            return false;
    }
    client->out_bytes = 0;
    return true;
}

/* --- receiving --- */

static bool read_more(struct client *client)
{
    if (client->in_start > 0) {
        memmove(client->in, client->in + client->in_start, client->in_end - client->in_start);
        client->in_end -= client->in_start;
        client->in_start = 0;
    }
    struct stream *stream = &client->stream;
    for (;;) {
        ssize_t got =
            stream_receive(stream, client->in + client->in_end, WIRE_REPLY_BYTES_MAX - client->in_end);
        if (got > 0) {
            client->in_end += (size_t)got;
            return true;
        }
        if (got == 0)
            return fail_for_now(client, "the server closed the connection");
        if (!wait_again(client, stream->receive_wants_room ? POLLOUT : POLLIN))
            return false;
    }
}

bool client_receive(struct client *client, struct wire_reply *reply)
{
    enum wire_state state;
    while ((state = wire_decode_reply(client->in + client->in_start, client->in_end - client->in_start,
                                      reply)) == WIRE_INCOMPLETE)
        if (!read_more(client))
            return false;
    if (state == WIRE_MALFORMED)
        return fail(client, "the server's reply is malformed: is it numberd that listens there?");
    client->in_start += reply->frame_bytes;
    client->last_code = reply->code;
    if (reply->code == WIRE_GOING_AWAY && reply->request_id == 0)
        return fail_for_now(client, "the server is stopping");
    if (reply->code == WIRE_UNAVAILABLE && reply->request_id == 0)
        return fail_for_now(client,
                            "the server says that all its connections are taken, or ours; try again later");
    if (reply->request_id != client->awaited_id++)
        return fail(client, "the server's reply is out of order");
    return true;
}

bool client_finish(struct client *client, struct wire_reply *reply)
{
    if (!client_flush(client) || !client_receive(client, reply))
        return false;
    if (reply->code == WIRE_OK)
        return true;
    client->is_passing = reply->code == WIRE_NOT_READY || reply->code == WIRE_UNAVAILABLE;
    client->retry_after_ms = client->is_passing ? reply->retry_after_ms : 0;
    if (reply->body_bytes == 0 || reply->code == WIRE_ELSEWHERE)
        snprintf(client->error, sizeof client->error, "%s", wire_code_text(reply->code));
    else
        snprintf(client->error, sizeof client->error, "%s (%.*s)", wire_code_text(reply->code),
                 (int)reply->body_bytes, (const char *)reply->body);
    return false;
}

/* The statuses of the reply to what was sent. */
static bool take_statuses(struct client *client, uint16_t count, uint8_t *statuses)
{
    struct wire_reply reply;
    if (!client_finish(client, &reply))
        return false;
    if (reply.count != count)
        return fail(client, "the server answered another number of numbers than asked");
    memcpy(statuses, reply.body, count);
    return true;
}

/* Another try is allowed, when the server is ready, or over another connection. */
static bool may_ask_again(struct client *client, uint64_t end_ms)
{
    if (!client->is_passing || clock_precise_ms() >= end_ms)
        return false;
    if (client->retry_after_ms == 0)
        return client_reconnect(client);
    pause_some(client->retry_after_ms < PAUSE_MS_MAX ? client->retry_after_ms : PAUSE_MS_MAX);
    client->retry_after_ms = 0;
    return true;
}

bool client_lookup(struct client *client, const uint64_t *numbers, uint16_t count, uint8_t *statuses)
{
    uint64_t end_ms = clock_precise_ms() + client->patience_ms;
    do {
        if (client_send_numbers(client, WIRE_LOOKUP, NULL, numbers, count) &&
            take_statuses(client, count, statuses))
            return true;
    } while (may_ask_again(client, end_ms));
    return false;
}

bool client_register(struct client *client, const struct client_registration *registrations, uint16_t count,
                     uint8_t *statuses)
{
    uint64_t end_ms = clock_precise_ms() + client->patience_ms;
    do {
        if (client_send_register(client, registrations, count) && take_statuses(client, count, statuses))
            return true;
    } while (may_ask_again(client, end_ms));
    return false;
}

bool client_goodbye(struct client *client)
{
    struct wire_reply reply;
    return client_send_plain(client, WIRE_GOODBYE) && client_finish(client, &reply);
}
