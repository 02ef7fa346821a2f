/* The drain: one thread that empties the workers' rings into the spool.
 *
 * It sorts the blocks into batches by hour and bucket, has the spool seal and append them, and only then gives the
 * rings' room back: what a SIGKILL can take is what was in the rings. At rest it looks every 5 ms and writes
 * what has waited for 50 ms, so lone lookups share frames; under load it writes without pause.
 * When the spool refuses (its cap, the disk), the drain keeps what it has, closes the gate, and tries the same
 * batch again every 100 ms until it succeeds or is stopped. */
#ifndef NUMBERD_PERSIST_QUERYLOG_DRAIN_H
#define NUMBERD_PERSIST_QUERYLOG_DRAIN_H

#include <stdatomic.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/spool.h"
#include "ring/ring.h"

struct drain;

struct drain_options {
    struct ring *const *rings; /* the caller's; the drain is their consumer until it is stopped */
    unsigned ring_count;
    struct spool *spool;
    void (*notice)(const char *line); /* for the operator; called from the drain's thread */
};

struct drain_figures {
    uint64_t appended; /* events written to the spool */
    uint64_t lost;     /* events given up: expired in the spool, or undeliverable at the stop */
};

/* NULL and the fault when memory or threads are short. */
struct drain *drain_start(const struct drain_options *options, struct fault *fault);

/* Empties the rings (their producers have stopped), ends the thread, frees. Returns the last figures. */
struct drain_figures drain_stop(struct drain *drain);

struct drain_figures drain_figures(const struct drain *drain);

/* True while the spool refuses: producers should not push. Valid until drain_stop. */
const atomic_bool *drain_gate(const struct drain *drain);

#endif
