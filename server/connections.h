/* One worker's connections: from their bytes to the sessions and back, until they are closed. Threads, the hand-over and the stop
 * are the worker's (worker.h).
 *
 * A turn reads into a buffer that all share, lets the session answer, and writes at once; only what does not go out or is not yet
 * a whole frame is kept with the connection, so an idle connection holds no buffer.
 *
 * The round. What is ready on all connections is read first, into the same buffer, 64 KiB and 64 connections at most; then all that it asks for
 * is looked up together (ahead.h); then one connection after the other is answered, with one write each. Replies so go out close to each
 * other, and a client with several connections, or several on one machine, is woken once rather than for each (with 128 numbers a request,
 * waking took a fifth of the worker's time). Who has anything else to do has a turn of its own, before which the round is finished; so
 * nothing changes between reading and answering but what other workers change.
 *
 * Turns. The worker has one thread. A turn is bounded: it reads and sends 64 KiB at most and does as much as 8,192 lookups are, which takes
 * 0.1 to 0.4 ms; a longer request goes on in the next one (session.h). Who has more to do, whose last turn was long, who has not said
 * hello yet, and who sends a frame in pieces is put off: such turns are taken one after the other, and between any two of them (or
 * some short ones) the sockets are looked at and all others have theirs. A client with short requests so waits for one long turn at
 * most, however many others want one; and those others get on in any case, since each round has some time for them. Lookups of
 * 65,535 numbers cost a tenth more so, of 1,000 and fewer nothing (before and after, in rounds by turns).
 *
 * Who asks on though its budget is used up rests: it is not read for a while that grows with what it asked for. So what nobody pays for
 * takes little of the worker's time.
 *
 * Replies to changes wait until the journal has them (registrations.h), and with them all of that connection: it is not read
 * meanwhile, so what a client sends behind a change waits in the kernel. Other connections go on.
 *
 * A client that takes longer than its patience for its hello, for the rest of a frame, or for reading the replies that
 * wait (64 KiB of them) is closed; who sits on a place of the operators' reserve has two seconds for the hello. One that owes
 * nothing may be idle for ever.
 *
 * Memory. A connection holds what has come of a frame, up to WIRE_REQUEST_BYTES_MAX and what was read with it, and the replies
 * that it does not read: no request is taken on above SESSION_OUTPUT_CAP, and the last reply may go 1 MiB beyond. That is 12 MiB at
 * most, and 192 GiB with the 16,384 connections of the default: too much to be allowed to all, and far more than is of use, since
 * who reads holds nothing. So each worker has a share of buffer-bytes-max, and when its connections hold more, it closes one of
 * those that hold the most, until they do not. By "the most" a power of two is meant, so that one is found at once however many
 * there are, and among them the one that has held so much for longest. Why that is sound:
 * - the bound holds after each turn, whatever the clients do, and a turn adds one connection's 12 MiB at most;
 * - who is closed holds at least half of what anyone does. With n connections that hold something that is more than a share's
 *   2n-th part; a client that reads its replies and sends its frames without a pause holds that only if the share is spread over so
 *   many that the other bounds (connections-max, connections-per-address) have been exhausted, too;
 * - memory is counted as it was taken from the allocator, and taken only for what has come: a frame's header alone takes nothing;
 * - workers share nothing, so no lock is needed, and an attacker who holds one worker's share leaves the others theirs.
 * An idle connection has some 700 bytes, under TLS with OpenSSL's 25 KiB, which connections-max bounds; the kernel's socket buffers
 * are not the process's memory, and are bounded by net.ipv4.tcp_mem.
 *
 * All of it is for the worker's thread. */
#ifndef NUMBERD_SERVER_CONNECTIONS_H
#define NUMBERD_SERVER_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "server/arrivals.h"
#include "server/buffer.h"
#include "server/counters.h"
#include "server/session.h"

struct connection;
TAILQ_HEAD(connection_queue, connection);

/* Those who owe something, by since when, and how long they may. */
struct connections_owing {
    struct connection_queue queue;
    unsigned patience_ms;
};

/* By the power of two of the bytes held. */
#define CONNECTIONS_WEIGHTS 64
/* The least that makes sense as a worker's share. */
#define CONNECTIONS_BUFFER_BYTES_MIN (UINT64_C(16) << 20)

/* All but the lists and buffers is set by the caller before connections_init. */
struct connections {
    struct event_base *base;
    struct service *service;
    struct counters *counters;
    struct seats *seats;
    unsigned patience_ms;
    uint64_t buffer_bytes_max; /* CONNECTIONS_BUFFER_BYTES_MIN at least */
    void (*held)(
        void *context); /* replies begin to wait for the journal: connections_release when it has moved */
    void *context;

    LIST_HEAD(, connection) all;
    struct connection_queue held_queue;                 /* by their positions, since these only grow */
    struct connections_owing owing[2];                  /* all others, and those in a hurry */
    struct connection_queue heavy[CONNECTIONS_WEIGHTS]; /* those who hold memory, by how much */
    uint64_t buffer_bytes;                              /* of all of them */
    struct connection_queue put_off;                    /* whose turn comes when the others had theirs */
    unsigned put_off_count;
    struct event *late;            /* added while there are such */
    struct connection_queue round; /* those that were read and are to be answered */
    size_t round_bytes;            /* of the read buffer, which are theirs */
    unsigned round_count;
    uint64_t round_begun_ns;
    struct event *impatience; /* added while somebody owes */
    uint8_t *read_buffer;
    struct buffer out; /* replies of the connection at hand */
    bool is_ending;    /* the loop ends with the last connection */
};

/* False when memory is short; deinit in every case, also without init. */
bool connections_init(struct connections *connections);

/* Closes all that are open. */
void connections_close(struct connections *connections);
void connections_deinit(struct connections *connections);

/* Takes over one that was accepted, and of which a porter has let in what it must (porter.h). */
void connections_open(struct connections *connections, const struct arrival *arrival);

/* Answers those of which was read since it was called last. To be called when all that are ready have been read, and before anything but
 * the connections themselves uses or changes what they use. */
void connections_finish_round(struct connections *connections);

/* The journal has moved or failed. True while somebody still waits. */
bool connections_release(struct connections *connections);
static inline bool connections_has_held(const struct connections *connections)
{
    return !TAILQ_EMPTY(&connections->held_queue);
}

/* Answers what has arrived and says goodbye to all; each is closed when its output is out. */
void connections_end(struct connections *connections);

#endif
