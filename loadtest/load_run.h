/* The load: connections with lookups or registrations under way, in closed or open loop, every answer checked.
 *
 * Each thread has an epoll loop over its share of the connections. Requests are slices of a pool of numbers that
 * is drawn before the clock starts, so the tester's own cost per number is a copy and a comparison. Registrations go
 * through the population in its order, once or, if more are asked for, again and again.
 * Closed loop: each connection has `outstanding` requests under way; latency counts from the sending.
 * Open loop: requests are due at a constant rate, whatever the server does; latency counts from when the request
 * was due, so a stall is seen by all who would have asked meanwhile (Tene's coordinated omission). */
#ifndef NUMBERD_LOADTEST_LOAD_RUN_H
#define NUMBERD_LOADTEST_LOAD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "load_options.h"
#include "population.h"

struct load_report {
    double seconds;       /* of the counted time */
    uint64_t requests;    /* answered */
    uint64_t numbers;     /* answered */
    uint64_t registered;  /* answers */
    uint64_t wrong;       /* answers that contradict the population */
    uint64_t limited;     /* numbers answered LIMITED */
    uint64_t added;       /* registrations that were new */
    uint64_t replaced;    /* and those that were not */
    uint64_t unavailable; /* requests answered with a code other than OK */
    uint64_t broken;      /* connections lost */
    struct histogram latency;
};

/* False when the load could not be started; the reason was printed. */
bool load_run(const struct load_options *options, const struct population *population,
              struct load_report *report);

#endif
