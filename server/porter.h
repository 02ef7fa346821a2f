/* A porter: one thread that lets connections in which do not begin with a hello. It reads the PROXY protocol's header (proxy.h)
 * where there is one, then does TLS's handshake where the port has it, and hands the connection over to its worker. Who takes longer
 * than its patience for that is closed; two seconds where the seat is of the operators' reserve.
 *
 * A handshake takes a third of a millisecond, and whoever can connect can have as many as he likes. In a thread of its own, with less
 * claim to the processors than the workers have (nice), they take what the lookups leave; with the claim of others they made lookups
 * wait (SECURITY.md, bench_floods).
 *
 * Threads: create, start, adopt, stop and destroy are for the main thread. The counters may be read by anyone. */
#ifndef NUMBERD_SERVER_PORTER_H
#define NUMBERD_SERVER_PORTER_H

#include <stdbool.h>

#include "server/arrivals.h"
#include "server/counters.h"
#include "server/worker.h"

struct porter;

struct porter_options {
    struct worker *worker; /* must live longer than the porter's thread */
    struct seats *seats;   /* the same */
    unsigned patience_ms;
};

/* NULL when memory or descriptors are short. */
struct porter *porter_create(const struct porter_options *options);
bool porter_start(struct porter *porter);

/* Takes over what has arrived. False when memory is short; it is then still the caller's. */
bool porter_adopt(struct porter *porter, const struct arrival *arrival);

/* Closes those that are not in yet, and ends the thread. NULL is fine, and one that was not started. */
void porter_stop(struct porter *porter);
void porter_destroy(struct porter *porter); /* the same */

const struct counters *porter_counters(const struct porter *porter);

#endif
