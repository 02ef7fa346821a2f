/* One worker's connections: from their bytes to the sessions and back, until they are closed. Threads, the hand-over and the stop
 * are the worker's (worker.h).
 *
 * A turn reads into a buffer that all share, lets the session answer, and writes at once; only what does not go out or is not yet
 * a whole frame is kept with the connection, so an idle connection holds no buffer.
 *
 * Replies to changes wait until the journal has them (registrations.h), and with them all of that connection: it is not read
 * meanwhile, so what a client sends behind a change waits in the kernel. Other connections go on.
 *
 * A connection through a proxy begins with the PROXY protocol's header (proxy.h), then comes TLS if the port has it, then the
 * session. A client that takes longer than its patience for its hello, for the rest of a frame, or for reading the replies that
 * wait (64 KiB of them) is closed; who sits on a place of the operators' reserve has two seconds for the hello. One that owes
 * nothing may be idle for ever.
 *
 * All of it is for the worker's thread. */
#ifndef NUMBERD_SERVER_CONNECTIONS_H
#define NUMBERD_SERVER_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "server/access/seats.h"
#include "server/buffer.h"
#include "server/counters.h"
#include "server/session.h"
#include "server/stream.h"

/* A connection that was accepted. Its stream and its seat are the receiver's. */
struct arrival {
    struct stream stream;
    uint8_t ip[16];  /* of the peer */
    bool is_proxied; /* the peer is a proxy, which owes its header */
    struct seat seat;
};

/* Closes what nobody took. */
void arrival_dismiss(const struct arrival *arrival, struct seats *seats);

struct connection;
TAILQ_HEAD(connection_queue, connection);

/* Those who owe something, by since when, and how long they may. */
struct connections_owing {
    struct connection_queue queue;
    unsigned patience_ms;
};

/* All but the lists and buffers is set by the caller before connections_init. */
struct connections {
    struct event_base *base;
    struct service *service;
    struct counters *counters;
    struct seats *seats;
    unsigned patience_ms;
    void (*held)(
        void *context); /* replies begin to wait for the journal: connections_release when it has moved */
    void *context;

    LIST_HEAD(, connection) all;
    struct connection_queue held_queue; /* by their positions, since these only grow */
    struct connections_owing owing[2];  /* all others, and those in a hurry */
    struct event *impatience;           /* added while somebody owes */
    uint8_t *read_buffer;
    struct buffer out; /* replies of the connection at hand */
    bool is_ending;    /* the loop ends with the last connection */
};

/* False when memory is short; deinit in every case, also without init. */
bool connections_init(struct connections *connections);

/* Closes all that are open. */
void connections_close(struct connections *connections);
void connections_deinit(struct connections *connections);

void connections_open(struct connections *connections, const struct arrival *arrival);

/* The journal has moved or failed. True while somebody still waits. */
bool connections_release(struct connections *connections);

/* Answers what has arrived and says goodbye to all; each is closed when its output is out. */
void connections_end(struct connections *connections);

#endif
