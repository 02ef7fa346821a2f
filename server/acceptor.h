/* The acceptor: takes new connections in the main loop and deals them out to the workers in turn.
 *
 * Main thread only. At the connection limit, or when the system is out of descriptors or memory, it pauses
 * for 100 ms instead of spinning; the clients wait in the kernel's backlog. */
#ifndef NUMBERD_SERVER_ACCEPTOR_H
#define NUMBERD_SERVER_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "server/worker.h"

struct acceptor;

/* `listener` is a listening, non-blocking socket that the acceptor then owns. NULL when memory is short. */
struct acceptor *acceptor_create(struct event_base *base, int listener, struct worker *const *workers,
                                 unsigned worker_count, uint64_t connections_max);

/* Stops listening; the connections live on. */
void acceptor_destroy(struct acceptor *acceptor);

#endif
