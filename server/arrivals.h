/* Connections on their way from the thread that has accepted them to the one that owns them: a queue with a lock.
 *
 * Threads: put from any, take from one. Waking the one that takes is its own affair. */
#ifndef NUMBERD_SERVER_ARRIVALS_H
#define NUMBERD_SERVER_ARRIVALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "server/access/seats.h"
#include "server/stream.h"

/* A connection that was accepted. Its stream and its seat are the receiver's. */
struct arrival {
    struct stream stream;
    uint8_t ip[16];        /* of the peer */
    bool is_proxied;       /* the peer is a proxy, which has named, or owes, a client */
    uint8_t client_ip[16]; /* whom the proxy has named; all zero: nobody yet, or none */
    struct seat seat;
};

/* Closes what nobody took. */
void arrival_dismiss(const struct arrival *arrival, struct seats *seats);

struct arrivals {
    pthread_mutex_t mutex;
    STAILQ_HEAD(, arrivals_entry) queue;
};

void arrivals_init(struct arrivals *arrivals);
/* Dismisses those that are left. */
void arrivals_deinit(struct arrivals *arrivals, struct seats *seats);

/* False when memory is short; it is then still the caller's. */
bool arrivals_put(struct arrivals *arrivals, const struct arrival *arrival);

/* The one that has waited longest; false when there is none. */
bool arrivals_take(struct arrivals *arrivals, struct arrival *arrival);

#endif
