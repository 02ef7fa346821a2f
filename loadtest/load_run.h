/* The load: connections with lookups or registrations under way, in closed or open loop, every answer checked.
 *
 * Each thread has an epoll loop over its share of the connections. Requests are slices of pools of numbers (load_pool.h).
 * Registrations go through the population in its order, once or, if more are asked for, again and again.
 * Closed loop: each connection has `outstanding` requests under way; latency counts from the sending.
 * Open loop: requests are due at the rate's moments (load_pace.h), whatever the server does; latency counts from when the request
 * was due, so a stall is seen by all who would have asked meanwhile (Tene's coordinated omission). */
#ifndef NUMBERD_LOADTEST_LOAD_RUN_H
#define NUMBERD_LOADTEST_LOAD_RUN_H

#include <stdbool.h>

#include "load_options.h"
#include "load_record.h"
#include "population.h"

/* False when the load could not be started; the reason was printed. The caller frees report->timeline. */
bool load_run(const struct load_options *options, const struct population *population,
              struct load_report *report);

#endif
