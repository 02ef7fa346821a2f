/* A blocking client of numberd: connect, ask, and pipeline.
 *
 * One client, one connection, one thread at a time. Requests may be sent ahead of their replies (send_*
 * buffers, flush writes); replies come in the order of the requests. The server stops reading from a client
 * that does not read its replies, so keep fewer than CLIENT_OUTSTANDING_BYTES_MAX unanswered.
 * A failing function returns false and client_error says why; the connection is then of no more use, until client_reconnect.
 *
 * A server that is restarted says goodbye, and who connects again meanwhile may have to wait. With `patience_ms` connecting is tried
 * again for so long, with pauses that double from 10 ms to a second, each shortened by chance so that not all clients come at once; and
 * client_lookup and client_register, which may be carried out twice without harm, ask again when the connection broke, over a new one, or
 * when the server was not ready.
 * Who pipelines calls client_reconnect and sends again what was not answered.
 *
 * With TLS the program must ignore SIGPIPE.
 *
 *     struct client_options options = {.server = "127.0.0.1:4164"};
 *     struct client *client = client_connect(&options, error, sizeof error);
 *     uint8_t statuses[2];
 *     if (client_lookup(client, numbers, 2, statuses)) ...
 *     client_close(client);
 */
#ifndef NUMBERD_SERVER_CLIENT_H
#define NUMBERD_SERVER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/stream.h"
#include "server/tls.h"
#include "server/wire.h"

#define CLIENT_OUTSTANDING_BYTES_MAX (1u << 20)
#define CLIENT_TIMEOUT_MS_DEFAULT 5000

struct client;

struct client_options {
    const char *server;   /* HOST:PORT, HOST, [IPv6]:PORT */
    const char *token;    /* NULL: none */
    unsigned timeout_ms;  /* for connecting and for each wait; 0: the default */
    unsigned patience_ms; /* 0: connects once, or fails */
    /* With TLS: what is shown and trusted; the client has a reference of its own. NULL: plain. */
    struct tls_context *tls;
    const char *tls_name; /* whose certificate the server must have; NULL: HOST of `server` */
};

struct client_registration {
    uint64_t number;
    uint64_t account;
    uint8_t flags;
};

/* Connects and says hello. NULL and the error on failure. The options' texts may go afterwards. */
struct client *client_connect(const struct client_options *options, char *error, size_t error_bytes);
/* The same, in two steps for who wants to know more of a failure than its text: a client without a connection, which client_reconnect makes.
 * NULL: memory is short. */
struct client *client_create(const struct client_options *options);

/* Reads a token, the first word of a file. False when there is none. */
bool client_read_token(const char *path, char token[static WIRE_TOKEN_BYTES_MAX + 1]);

/* Leaves the connection and makes another, as at first. What was buffered or not answered is forgotten. */
bool client_reconnect(struct client *client);

/* Closes at once; client_goodbye first is the orderly way. Frees. */
void client_close(struct client *client);

/* Hands the greeted, non-blocking connection to a caller with an event loop of its own, and frees the rest. With TLS
 * the caller keeps a reference to the context for as long as the connection is open. */
struct stream client_detach(struct client *client);

const char *client_error(const struct client *client);
/* The code (enum wire_code) of the last reply; WIRE_OK before the first. */
uint8_t client_code(const struct client *client);

/* Whether the last failure was of the connection, or one that passes: another server, or this one later, may do. */
bool client_is_passing(const struct client *client);
/* ... and that the server did not answer: it may still do what was asked. */
bool client_has_timed_out(const struct client *client);

/* --- pipelining --- */

/* Buffer one request; `origin` may be NULL. */
bool client_send_numbers(struct client *client, enum wire_type type, const struct wire_origin *origin,
                         const uint64_t *numbers, uint16_t count);
bool client_send_register(struct client *client, const struct client_registration *registrations,
                          uint16_t count);
bool client_send_move(struct client *client, uint64_t from, uint64_t to);
bool client_send_plain(struct client *client, enum wire_type type);
bool client_flush(struct client *client);

/* The next reply, whatever its code; its body lives until the next call on this client. */
bool client_receive(struct client *client, struct wire_reply *reply);

/* --- one at a time --- */

/* Sends what is buffered, waits for one reply and wants code OK. */
bool client_finish(struct client *client, struct wire_reply *reply);

/* One status for each number or registration, into `statuses`. */
bool client_lookup(struct client *client, const uint64_t *numbers, uint16_t count, uint8_t *statuses);
bool client_register(struct client *client, const struct client_registration *registrations, uint16_t count,
                     uint8_t *statuses);
bool client_goodbye(struct client *client);

#endif
